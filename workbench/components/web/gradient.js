// Why a cliff gives no gradient: a reward flips at a click, the advantages grow from the squares, and the gradient follows once
// it is measured. What advantage a right and a wrong rollout have at each count of right ones comes with the data, by the engine.
const COLUMN = 34, SIDE = 28, TOP = 20, ZERO = 132, UP = 42, GRADIENT = 218, ROOM = 60

export default function draw({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".picture")
  const panels = (root.panels ??= build(root, data)), given = data.groups.map((g) => g.rewards).join("-")
  if (!root.told || root.told === given) { // a click that the page has not heard of yet is not taken back
    root.told = ""
    panels.forEach((p, n) => { p.rewards = data.groups[n].rewards })
  }
  root.most = Math.max(root.most ?? 0, ...data.groups.map((g) => g.norm?.value ?? 0)) // fills the bar, of both prompts alike
  const paint = () => panels.forEach((p, n) => p.paint(data.groups[n], root.most || 1))
  panels.forEach((p) => { p.set = (rewards) => {
    p.rewards = rewards
    paint()
    setTriggerValue("picked", (root.told = panels.map((q) => q.rewards).join("-")))
  } })
  paint()
}

function build(root, data) {
  const panels = data.groups.map((group) => panel(group, data.looks))
  root.replaceChildren(make("div", { className: "groups" }, ...panels.map((p) => p.room)))
  return panels
}

// One prompt: its squares, the bar under each, the bar of the gradient, and the same in words.
function panel(group, looks) {
  const k = group.answers.length, width = k * COLUMN
  const svg = mark("svg", { viewBox: `0 0 ${width} ${GRADIENT + 24}`, role: "group", "aria-label": group.name })
  const name = make("strong"), said = make("output"), back = make("button", { type: "button", textContent: "As sampled" })
  const place = (tag, look) => svg.appendChild(mark(tag, look))
  const words = (y, text) => svg.append(mark("text", { y }, text))
  words(12, "rewards: click one")
  words(TOP + SIDE + 18, "advantages")
  words(GRADIENT - 8, "norm of ∇L_GRPO, measured")
  place("path", { d: `M0 ${ZERO}H${width}`, class: "axis" })
  place("path", { d: `M0 ${GRADIENT}V${GRADIENT + 20}`, class: "axis" })
  const bars = group.answers.map((_, i) => place("rect", { x: i * COLUMN + 6, width: COLUMN - 12 }))
  const labels = group.answers.map((_, i) => place("text", { x: (i + 0.5) * COLUMN, "text-anchor": "middle" }))
  const length = place("rect", { x: 0, y: GRADIENT, height: 20, fill: looks.gradient })
  const norm = place("text", { y: GRADIENT + 15 })
  const self = { room: make("section", {}, make("div", {}, name, back), make("p", {}, group.problem), svg, said), rewards: "" }
  const squares = group.answers.map((_, i) => svg.appendChild(square(i, () => self.set(flipped(self.rewards, i)))))
  back.onclick = () => self.set(group.sampled)
  self.paint = (now, most) => {
    const right = [...self.rewards].filter((r) => r === "1").length, known = now.norm?.of === self.rewards ? now.norm.value : null
    const advantage = [...self.rewards].map((r) => now.table[right][r])
    squares.forEach((s, i) => dress(s, i, self.rewards[i] === "1", now, looks))
    bars.forEach((bar, i) => grow(bar, labels[i], advantage[i], looks))
    length.style.width = `${((known ?? 0) / most) * (width - ROOM)}px`
    norm.setAttribute("x", ((known ?? 0) / most) * (width - ROOM) + 6)
    norm.textContent = known === null ? "…" : short(known)
    name.textContent = `${now.name}: ${right} of ${k} right`
    back.style.visibility = self.rewards === now.sampled ? "hidden" : "visible"
    said.textContent = sentence(now, right, k, known)
  }
  return self
}

function square(i, flip) {
  const node = mark("g", { role: "button", tabindex: 0, transform: `translate(${i * COLUMN + (COLUMN - SIDE) / 2} ${TOP})` })
  node.append(mark("title"), mark("rect", { width: SIDE, height: SIDE, rx: 4 }))
  node.append(mark("text", { x: SIDE / 2, y: SIDE / 2 + 6, "text-anchor": "middle", class: "verdict" }))
  node.onclick = flip
  node.onkeydown = (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); flip() } }
  return node
}

function dress(node, i, right, group, looks) {
  const [title, box, verdict] = node.children, answer = group.answers[i] ? `answered ${group.answers[i]}` : "gave no answer"
  const by = (right ? "1" : "0") === group.sampled[i] ? "by the verifier" : "by hand"
  title.textContent = `Rollout ${i + 1} ${answer}: reward ${right ? 1 : 0} ${by}`
  node.setAttribute("aria-label", title.textContent)
  node.setAttribute("aria-pressed", String(right))
  const colour = right ? looks.right : looks.wrong
  const look = { fill: colour, stroke: colour, "fill-opacity": right ? 0.35 : 0.12, "stroke-dasharray": by === "by hand" ? "4 3" : "none" }
  Object.entries(look).forEach(([key, value]) => box.setAttribute(key, value))
  verdict.textContent = right ? "✓" : "✗"
}

// Up for what was better than the others, down for what was worse.
function grow(bar, label, advantage, looks) {
  const size = Math.abs(advantage) * UP
  bar.style.y = `${advantage > 0 ? ZERO - size : ZERO}px`
  bar.style.height = `${size}px`
  bar.setAttribute("fill", advantage > 0 ? looks.right : looks.wrong)
  label.setAttribute("y", advantage >= 0 ? ZERO - size - 4 : ZERO + size + 14)
  label.textContent = signed(advantage)
}

function sentence(group, right, k, known) {
  const norm = known === null ? group.waiting : `gradient norm ${short(known)}.`
  if (right === 0 || right === k) return `Equal rewards, every advantage 0; ${norm}`
  const [wrong, good] = group.table[right].map(signed)
  return `Right ${good}, wrong ${wrong}; ${norm}`
}

const flipped = (rewards, i) => rewards.slice(0, i) + (rewards[i] === "1" ? "0" : "1") + rewards.slice(i + 1)
const short = (v) => (v === 0 ? "0" : String(Number(v.toPrecision(2))))
const signed = (v) => (v === 0 ? "0" : `${v > 0 ? "+" : "−"}${Math.abs(v).toFixed(2)}`)
