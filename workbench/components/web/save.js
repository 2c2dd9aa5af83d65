// A figure of the page as SVG or PNG, as it stands: its layers in one file, with the looks that the page gives them.
const KEPT = ["fill", "stroke", "stroke-width", "font-size", "font-family", "font-weight", "paint-order", "opacity"]

export default function draw({ data, parentElement }) {
  const button = (kind) => {
    const made = make("button", { type: "button" }, `Figure as ${kind.toUpperCase()}`)
    made.onclick = () => save(data, kind)
    return made
  }
  const room = parentElement.querySelector(".picture")
  room.replaceChildren(button("svg"), " ", button("png"))
}

function save({ key, name }, kind) {
  const layers = layersOf(document.querySelector(`.st-key-${key}`))
  const { width, height } = layers[0].viewBox.baseVal?.width ? layers[0].viewBox.baseVal : layers[0].getBoundingClientRect()
  const look = getComputedStyle(document.querySelector("[data-testid=stApp]"))
  const whole = mark("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` })
  whole.append(mark("rect", { width: "100%", height: "100%", fill: look.backgroundColor }), ...layers.map(inlined))
  const text = new XMLSerializer().serializeToString(whole)
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }))
  if (kind === "svg") return hand(url, `${name}.svg`)
  const image = new Image()
  image.onload = () => {
    const canvas = make("canvas", { width: 2 * width, height: 2 * height })
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height)
    canvas.toBlob((png) => hand(URL.createObjectURL(png), `${name}.png`), "image/png")
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
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}
