// The cliff map: a dot a prompt, in columns by level or source, its pass rate upward between two bands: cliffs below, solved
// prompts above. An arm a panel. Play moves the dots over the evaluated steps, each in its lane as far as there is room. A dot
// opens its prompt: by mouse, or by Enter.
const PLOT = { left: 66, right: 2, top: 24, bottom: 44, gap: 18 }
let held = "" // the prompt that was opened by key: its dot has the focus again once the page is drawn anew

export default function draw({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".picture")
  const panels = make("div"), tally = make("div", { className: "tally" }), bar = make("div")
  root.replaceChildren(panels, tally, bar)
  let now = Math.min(data.at ?? data.moments.length - 1, data.moments.length - 1), opened = data.opened, paint = () => {}
  const open = (id) => {
    opened = id
    paint(now)
    setTriggerValue("picked", { id, at: now })
  }
  const build = () => {
    paint = chart(data, panels, () => opened, open)
    paint(now)
  }
  const watch = new ResizeObserver(() => { if (panels.clientWidth !== Number(panels.dataset.width)) build() })
  build()
  watch.observe(root)
  const show = (_, i) => { now = i; paint(i); tally.replaceChildren(...data.arms.map((arm) => counts(data, arm, i))) }
  const stop = player({ room: bar, steps: data.moments, words: (m) => m, show, at: now, pause: 900 })
  bar.hidden = data.moments.length < 2
  return () => { stop(); watch.disconnect() }
}

// Panels with axes and dots; returns what moves the dots to a moment.
function chart(data, panels, opened, open) {
  const width = panels.clientWidth || 700, height = data.arms.length > 1 ? 420 : 360
  panels.dataset.width = width
  const inner = (width - PLOT.left - PLOT.right - PLOT.gap * (data.arms.length - 1)) / data.arms.length
  const layers = data.arms.map((arm) => arm.at.map((at) => (data.luck ? [...at, ...data.luck.at] : at)))
  const plane = planned(data, layers, { inner, height, floor: height - PLOT.bottom, column: inner / data.across.names.length })
  const svg = mark("svg", { width, height, role: "group", "aria-label": data.alt || "" })
  const drawn = data.arms.map((arm, a) => {
    const room = mark("g", { transform: `translate(${PLOT.left + a * (inner + PLOT.gap)} 0)` })
    room.append(...axes(data, plane, a === 0))
    if (arm.name) room.append(mark("text", { x: inner / 2, y: 15, "text-anchor": "middle", class: "name" }, arm.name))
    const trails = mark("g", { class: "trails" }), ring = mark("circle", { class: "ring", r: plane.pitch / 2 + 3 })
    const dots = layers[a][0].map((_, i) => dot(data, i % data.prompts.length, open))
    room.append(trails, ...dots, ring)
    svg.append(room)
    return { places: places(data, layers[a], plane), at: layers[a], trails, ring, dots }
  })
  keys(svg, data)
  svg.onclick = (e) => nearest(svg, e, open)
  panels.replaceChildren(svg)
  if (held) svg.querySelector(`[data-id="${CSS.escape(held)}"]`)?.focus({ preventScroll: true })
  held = ""
  return (now) => drawn.forEach((arm) => move(data, arm, now, plane, opened()))
}

function move(data, arm, now, plane, opened) {
  const size = plane.pitch * 0.44, at = arm.at[now], faded = new Set(data.faded)
  arm.dots.forEach((node, i) => {
    const place = arm.places[now][i], known = at[i], id = data.prompts[i % data.prompts.length][0]
    node.style.display = known ? "" : "none"
    if (!known) return
    const look = data.looks[known[2]], words = `${id}: ${known[0]} of ${known[1]}, ${look.words}`
    dress(node, look, place, size)
    node.classList.toggle("faded", faded.has(id))
    node.setAttribute("aria-label", words)
    node.setAttribute("aria-pressed", String(id === opened))
    node.firstChild.textContent = words
  })
  arm.trails.replaceChildren(...trails(data, arm, now))
  const i = data.prompts.findIndex(([id]) => id === opened), place = i < 0 ? null : arm.places[now][i]
  arm.ring.style.display = place ? "" : "none"
  if (place) arm.ring.style.transform = `translate(${place[0]}px, ${place[1]}px)`
}

// From where a prompt stood before training, or at its best, to where it is.
function trails(data, arm, now) {
  return data.prompts.flatMap((_, i) => {
    const state = arm.at[now][i]?.[2], until = arm.places.slice(0, now + 1).map((p) => p[i]).filter(Boolean)
    if (!["recovered", "relapsed", "lost"].includes(state) || until.length < 2) return []
    const from = state === "relapsed" ? until.reduce((a, b) => (b[1] < a[1] ? b : a)) : until[0], to = until.at(-1)
    return [mark("path", { d: `M${from[0]} ${from[1]}L${to[0]} ${to[1]}`, stroke: data.looks[state].colour, class: state })]
  })
}

const shelf = ([correct, n], rows) => (correct ? Math.max(1, Math.min(correct < n ? rows - 1 : rows, Math.round((rows * correct) / n))) : 0)

// Prompts of one column and pass rate stand together: [column, shelf] → indices, those in one state side by side.
function cells(data, at, rows) {
  const found = new Map(), order = Object.keys(data.looks)
  at.forEach((known, i) => {
    if (!known) return
    const key = `${data.prompts[i % data.prompts.length][1]} ${shelf(known, rows)}`
    found.set(key, [...(found.get(key) || []), i])
  })
  found.forEach((cell) => cell.sort((a, b) => order.indexOf(at[a][2]) - order.indexOf(at[b][2]) || a - b))
  return found
}

// The largest distance of dots at which every cell of every moment holds its own, and the bands that this takes. Where columns
// are narrow, rates are drawn in eighths.
function planned(data, layers, plane) {
  const rows = Math.min(plane.column < 70 ? 8 : 16, data.most), most = [1, 1, 1], room = plane.floor - PLOT.top
  layers.flat().forEach((at) => cells(data, at, rows).forEach((cell, key) => {
    const level = Number(key.split(" ")[1]), part = level === 0 ? 0 : level === rows ? 2 : 1
    most[part] = Math.max(most[part], cell.length)
  }))
  for (let pitch = 15; ; pitch -= 0.5) {
    const lanes = Math.max(1, Math.floor((plane.column - 6) / pitch)), [low, mid, high] = most.map((n) => Math.ceil(n / lanes) * pitch)
    const band = Math.max(44, low + 10), top = Math.max(40, high + 10), step = (room - band - top) / rows
    if (step >= mid || pitch <= 3) return { ...plane, rows, pitch, lanes, band, step, zero: plane.floor - band, one: PLOT.top + top }
  }
}

// For each moment, index → [x, y] within a panel. A prompt keeps the lane of its first place where it is free, else the next.
function places(data, moments, plane) {
  const home = [], middle = (plane.lanes - 1) / 2, all = Array.from({ length: plane.lanes }, (_, lane) => lane)
  const near = (lane) => [...all].sort((a, b) => Math.abs(a - lane) - Math.abs(b - lane) || Math.abs(a - middle) - Math.abs(b - middle))
  return moments.map((at) => {
    const found = []
    cells(data, at, plane.rows).forEach((cell, key) => {
      const [column, level] = key.split(" ").map(Number), lines = Math.ceil(cell.length / plane.lanes), filled = all.map(() => 0)
      const base = level === 0 ? (plane.zero + plane.floor) / 2
        : level === plane.rows ? (PLOT.top + plane.one) / 2 : plane.zero - level * plane.step
      cell.forEach((i, k) => {
        const wish = home[i % data.prompts.length] ??= near(middle)[k % plane.lanes]
        const lane = near(wish).find((l) => filled[l] < lines)
        found[i] = [(column + 0.5) * plane.column + (lane - middle) * plane.pitch, base + ((lines - 1) / 2 - filled[lane]++) * plane.pitch]
      })
    })
    return found
  })
}

function axes(data, plane, first) {
  const { inner, column, height, floor, zero, one } = plane, parts = []
  const say = (y, ...words) => words.forEach((w, i) => first && parts.push(
    mark("text", { x: -8, y: y + 5 + 17 * (i - (words.length - 1) / 2), "text-anchor": "end" }, w)))
  parts.push(mark("rect", { class: "band", x: 0, y: zero, width: inner, height: plane.band }),
    mark("rect", { class: "band", x: 0, y: PLOT.top, width: inner, height: one - PLOT.top }))
  for (const share of [0.25, 0.5, 0.75]) {
    parts.push(mark("path", { d: `M0 ${zero - share * (zero - one)}H${inner}`, class: "grid" }))
    say(zero - share * (zero - one), `${100 * share} %`)
  }
  say((PLOT.top + one) / 2, "solved", "100 %")
  say((zero + floor) / 2, "cliff", `0 of ${data.most}`)
  const room = Math.floor(column / 8)
  data.across.names.forEach((name, i) => parts.push(
    mark("text", { x: (i + 0.5) * column, y: floor + 18, "text-anchor": "middle" },
      name.length > room ? `${name.slice(0, Math.max(1, room - 1))}…` : name, mark("title", {}, name))))
  parts.push(mark("text", { x: inner / 2, y: height - 6, "text-anchor": "middle" }, data.across.title))
  return parts
}

function dot(data, i, open) {
  const id = data.prompts[i][0]
  const node = mark("path", { class: "dot", role: "button", tabindex: -1, "data-id": id }, mark("title"))
  node.onkeydown = (e) => {
    if (e.key !== "Enter" && e.key !== " ") return
    e.preventDefault()
    held = id
    open(id)
  }
  return node
}

// One dot takes part in the order of Tab; arrows go to the next one in their direction.
function keys(svg, data) {
  const dots = [...svg.querySelectorAll(".dot")], start = dots.find((d) => d.dataset.id === data.opened) || dots[0]
  start?.setAttribute("tabindex", 0)
  svg.addEventListener("focusin", (e) => dots.forEach((d) => d.setAttribute("tabindex", d === e.target ? 0 : -1)))
  svg.onkeydown = (e) => {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key]
    if (!way || !e.target.classList.contains("dot")) return
    e.preventDefault()
    const from = middle(e.target), cost = (d) => {
      const [x, y] = middle(d).map((v, k) => v - from[k]), ahead = x * way[0] + y * way[1]
      return ahead > 1 ? ahead + 3 * Math.abs(x * way[1] + y * way[0]) : Infinity
    }
    const next = dots.filter(there).reduce((a, b) => (cost(b) < cost(a) ? b : a), e.target)
    next.focus({ preventScroll: true })
  }
}

const there = (d) => d.style.display !== "none" && !d.classList.contains("faded")
const middle = (d) => { const box = d.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2] }

// A small dot need not be hit exactly.
function nearest(svg, e, open) {
  const away = (d) => Math.hypot(...middle(d).map((v, k) => v - [e.clientX, e.clientY][k]))
  const found = [...svg.querySelectorAll(".dot")].filter(there).map((d) => [away(d), d]).sort((a, b) => a[0] - b[0])[0]
  if (found && found[0] < 16) open(found[1].dataset.id)
}

function dress(node, look, [x, y], size) {
  node.setAttribute("d", SHAPES[look.symbol.replace("-open", "")] || SHAPES.circle)
  node.setAttribute("fill", look.symbol.endsWith("-open") ? "none" : look.colour)
  node.setAttribute("stroke", look.colour)
  node.setAttribute("stroke-width", look.symbol.endsWith("-open") ? 0.4 : 0)
  node.style.transform = `translate(${x}px, ${y}px) scale(${size})`
}

// What an arm's dots are, in words with their marks: the legend, counted at each step.
function counts(data, arm, now) {
  const marks = Object.entries(data.looks).flatMap(([state, look]) => {
    const of = state === "luck" ? data.luck?.at || [] : arm.at[now], n = of.filter((known) => known?.[2] === state).length
    if (!n && !(state === "luck" && data.luck)) return []
    const icon = mark("svg", { width: 14, height: 14, viewBox: "-1.3 -1.3 2.6 2.6", "aria-hidden": true }, mark("path"))
    dress(icon.firstChild, look, [0, 0], 1)
    return [make("li", {}, icon, `${n} ${look.words}${state === "luck" ? ` (redraw, seed ${data.luck.seed})` : ""}`)]
  })
  return make("ul", { ariaLabel: arm.name || "Prompts" }, ...marks)
}
