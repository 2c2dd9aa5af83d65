// What the stage asks of the browser: a station begins at its top; the arrow keys stay with the stage, whatever was clicked; a
// clicker's page keys turn as well; and the page learns how large it may be drawn.
const WIDE = 1920, HIGH = 1080, FULL = 1.45 // a lecture hall's screen, and what 14 px become there

export default function draw({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".picture")
  root.heard?.abort()
  const { signal } = (root.heard = new AbortController())
  if (window.hdpoStation !== data.station) document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0)
  window.hdpoStation = data.station
  const fit = () => {
    const room = FULL * Math.min(innerWidth / WIDE, innerHeight / HIGH), scale = Math.max(1, Math.round(20 * room) / 20)
    if (scale !== data.scale) setStateValue("scale", scale)
  }
  addEventListener("pointerup", () => setTimeout(release, 50), { signal, capture: true })
  addEventListener("keydown", (event) => {
    const way = { PageDown: "next", PageUp: "back" }[event.key]
    if (!way || writes(focused())) return
    event.preventDefault()
    document.querySelector(`.st-key-stage_${way} button`)?.click()
  }, { signal, capture: true })
  addEventListener("resize", fit, { signal })
  fit()
  return () => { root.heard.abort(); delete window.hdpoStation }
}

// What has the focus, inside of a picture too.
function focused() {
  let at = document.activeElement
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement
  return at
}

const writes = (node) => node?.matches("textarea, input:not([type=range], [type=checkbox], [type=radio], [role=combobox])")

// After a click the focus is nobody's, but for a field to write in and a list that stands open.
function release() {
  const at = focused()
  if (at && !writes(at) && at.getAttribute("aria-expanded") !== "true") at.blur()
}
