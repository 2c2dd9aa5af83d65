// A figure of the page as SVG or PNG, as it stands: its layers in one file, with the looks that the page gives them.
const KEPT = ["fill", "stroke", "stroke-width", "font-size", "font-family", "font-weight", "paint-order", "opacity"]

export default function draw({ data, parentElement }) {
  const button = (kind) => {
    const words = `Figure as ${kind.toUpperCase()}`, made = make("button", { type: "button" }, words)
    made.onclick = () => { made.textContent = save(data, kind) ? words : `${words}: it is just being drawn, click again` }
    return made
  }
  const room = parentElement.querySelector(".picture")
  room.replaceChildren(button("svg"), " ", button("png"))
}

// Whether there was something to save. While a page is drawn again, what stood in a place can still hang beside what stands there now.
function save({ key, name }, kind) {
  const layers = [...document.querySelectorAll(`.st-key-${key}`)].map(layersOf).findLast((found) => found.length)
  if (!layers) return false
  const { width, height } = layers[0].viewBox.baseVal?.width ? layers[0].viewBox.baseVal : layers[0].getBoundingClientRect()
  const look = getComputedStyle(document.querySelector("[data-testid=stApp]"))
  const whole = mark("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` })
  whole.append(mark("rect", { width: "100%", height: "100%", fill: look.backgroundColor }), ...layers.map(inlined))
  const text = new XMLSerializer().serializeToString(whole)
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }))
  if (kind === "svg") hand(url, `${name}.svg`)
  else drawn(url, width, height, (png) => hand(png, `${name}.png`))
  return true
}

// An SVG as pixels, twice as fine as the page has it.
function drawn(url, width, height, give) {
  const image = new Image()
  image.onload = () => {
    const canvas = make("canvas", { width: 2 * width, height: 2 * height })
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height)
    canvas.toBlob((png) => give(URL.createObjectURL(png)), "image/png")
  }
  image.src = url
}

// Plotly draws in several layers, a picture of ours in one, within its own root.
function layersOf(holder) {
  const plotly = holder.querySelectorAll(".main-svg")
  if (plotly.length) return [...plotly]
  const roots = [...holder.querySelectorAll("*")].map((e) => e.shadowRoot).filter(Boolean)
  return roots.flatMap((root) => [...root.querySelectorAll("svg")]).slice(0, 1)
}

function inlined(layer) {
  const copy = layer.cloneNode(true), from = [layer, ...layer.querySelectorAll("*")]
  ;[copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
    const look = getComputedStyle(from[i])
    KEPT.forEach((name) => node.style.setProperty(name, look.getPropertyValue(name)))
  })
  copy.setAttribute("overflow", "visible")
  return copy
}

function hand(url, name) {
  make("a", { href: url, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}
