// Coverage against accuracy: each arm a path from the base model to where it stands, its end marked; seeds thin. Play goes
// from the base to the moment that is chosen, in a frame that stands still.
const EDGE = { left: 64, right: 20, top: 14, bottom: 52 }

export default function draw({ data, parentElement }) {
  const root = parentElement.querySelector(".picture")
  const figure = make("div", { className: "paths" }), bar = make("div")
  root.replaceChildren(figure, bar)
  let now = data.moments.length - 1
  const show = (i) => { now = i; figure.replaceChildren(plane(data, now, figure.clientWidth || 700)) }
  const stop = player({ room: bar, steps: data.moments, words: (m) => m, show: (_, i) => show(i), at: now })
  const watch = new ResizeObserver(() => show(now))
  watch.observe(root)
  return () => { stop(); watch.disconnect() }
}

function plane(data, now, width) {
  const height = Math.max(340, Math.min(460, 0.6 * width))
  const across = scale(data.x.range, EDGE.left, width - EDGE.right), up = scale(data.y.range, height - EDGE.bottom, EDGE.top)
  const svg = mark("svg", { width, height, role: "img", "aria-label": data.alt })
  svg.append(...grid(data, across, up, width, height))
  const labels = []
  data.arms.forEach((arm, i) => {
    const look = { stroke: arm.colour, "stroke-dasharray": DASHES[arm.dash] || "", fill: "none" }
    arm.seeds.forEach((seed) => svg.append(trail(seed.at, now, across, up, { ...look, "stroke-width": 1, opacity: 0.35 })))
    arm.seeds.forEach((seed) => cross(svg, seed, now, across, up, arm))
    svg.append(trail(arm.mean, now, across, up, { ...look, "stroke-width": 3 }))
    if (!arm.mean[now]) return
    const [x, y] = [across(arm.mean[now][0]), up(arm.mean[now][1])]
    const over = data.arms.slice(i + 1).filter(({ mean }) => mean[now] && near([x, y], [across(mean[now][0]), up(mean[now][1])]))
    svg.append(glyph(arm.symbol, x, y, 7 + 5 * over.length, arm.colour, `${arm.name}: ${percent(arm.mean[now][0])}, ${percent(arm.mean[now][1])}`))
    labels.push({ x, y, arm, r: 5 * over.length })
  })
  if (data.base) svg.append(glyph("hexagon-open", across(data.base[0]), up(data.base[1]), 8, "currentColor", "base model"))
  apart(labels).forEach(({ x, y, arm, r }) => {
    const right = x > width - 160
    const place = { x: x + (right ? -14 - r : 14 + r), y: y + 5, "text-anchor": right ? "end" : "start", class: "name" }
    svg.append(mark("text", place, arm.short))
  })
  return svg
}

// Marks that would hide each other: the lower one is drawn larger and shows around the upper.
const near = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) < 4

// Words at marks that stand close together go one below the other.
function apart(labels) {
  labels.sort((a, b) => a.y - b.y)
  labels.forEach((label, i) => { if (i) label.y = Math.max(label.y, labels[i - 1].y + 18) })
  return labels
}

const DASHES = { dash: "8 5", dot: "2 4", dashdot: "8 4 2 4", longdash: "14 5", longdashdot: "14 4 2 4" }
const percent = (share) => `${(100 * share).toFixed(1)} %`
const scale = ([low, high], from, to) => (v) => from + ((v - low) / (high - low)) * (to - from)

function trail(points, now, across, up, look) {
  const known = points.slice(0, now + 1).filter(Boolean)
  return mark("path", { d: known.map(([x, y], i) => `${i ? "L" : "M"}${across(x)} ${up(y)}`).join(""), ...look })
}

// One run's end with its 95 % intervals both ways.
function cross(svg, seed, now, across, up, arm) {
  const at = seed.at[now]
  if (!at) return
  const [x, y, left, right, low, high] = at, look = { stroke: arm.colour, "stroke-width": 1, opacity: 0.4 }
  svg.append(mark("path", { d: `M${across(left)} ${up(y)}H${across(right)}M${across(x)} ${up(low)}V${up(high)}`, ...look }))
  svg.append(glyph(arm.symbol, across(x), up(y), 4, arm.colour, `${arm.name}, ${seed.name}: ${percent(x)}, ${percent(y)}`, 0.7))
}

function grid(data, across, up, width, height) {
  const faint = { stroke: "currentColor", opacity: 0.15 }, bottom = height - EDGE.bottom, parts = []
  ticks(data.x.range, width < 560 ? 4 : 8).forEach((v) => parts.push(
    mark("path", { d: `M${across(v)} ${EDGE.top}V${bottom}`, ...faint }),
    mark("text", { x: across(v), y: bottom + 20, "text-anchor": "middle" }, `${Math.round(100 * v)} %`)))
  ticks(data.y.range, 6).forEach((v) => parts.push(
    mark("path", { d: `M${EDGE.left} ${up(v)}H${width - EDGE.right}`, ...faint }),
    mark("text", { x: EDGE.left - 8, y: up(v) + 5, "text-anchor": "end" }, `${Math.round(100 * v)} %`)))
  parts.push(mark("text", { x: (EDGE.left + width) / 2, y: height - 8, "text-anchor": "middle" }, data.x.title))
  const turned = `translate(16 ${(EDGE.top + bottom) / 2}) rotate(-90)`
  parts.push(mark("text", { transform: turned, "text-anchor": "middle" }, data.y.title))
  return parts
}

// Round shares between the ends, at most so many.
function ticks([low, high], most) {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((s) => (high - low) / s <= most) || 1
  const first = Math.ceil(low / step - 1e-9)
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step)
}

// A mark by its name in the figures' style; -open ones are not filled.
function glyph(name, x, y, r, colour, title, opacity = 1) {
  const d = SHAPES[name.replace("-open", "")] || SHAPES.circle
  const fill = name.endsWith("-open") ? "none" : colour
  const shape = { d, fill, stroke: colour, "stroke-width": 2 / r, opacity, transform: `translate(${x} ${y}) scale(${r})` }
  return mark("path", shape, mark("title", {}, title))
}
