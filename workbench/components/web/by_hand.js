// λ by hand: two sliders; the norms of both terms' gradients and of their sum; and a trace, token by token, before and after one
// step. Everything was measured before: the sliders only go through it.
const WIDE = 320, ROW = 44, HIGH = 110

export default function draw({ data, parentElement }) {
  const root = parentElement.querySelector(".picture")
  if (String(root.begun) !== String(data.at)) root.at = root.begun = data.at // what the reader chose outlives a drawing
  const norms = make("div"), trace = make("div"), said = make("output")
  const paint = () => {
    const [l, s] = root.at
    norms.replaceChildren(bars(data, l))
    trace.replaceChildren(strip(data, data.after[l][s], data.lambdas[l].colour))
    said.textContent = sentence(data, l, s)
  }
  const choose = (i, name, values) => {
    const shown = make("span"), slider = make("input", { type: "range", min: 0, max: values.length - 1, value: root.at[i], ariaLabel: name })
    const tell = () => { shown.textContent = `${name} = ${values[root.at[i]]}`; slider.setAttribute("aria-valuetext", shown.textContent) }
    slider.oninput = () => { root.at = root.at.with(i, Number(slider.value)); tell(); paint() }
    tell()
    return make("label", {}, shown, slider)
  }
  const sliders = make("div", { className: "sliders" }, choose(0, "λ", data.lambdas.map((x) => x.value)), choose(1, "step α", data.sizes))
  root.replaceChildren(sliders, make("div", { className: "hand" }, norms, trace), said)
  paint()
}

// On one scale whatever λ is, so that its bar grows with it.
function bars(data, l) {
  const lam = data.lambdas[l], most = Math.max(data.grpo, data.lambdas.at(-1).value * data.jsd, ...data.sums)
  const rows = [["norm of ∇L_GRPO", data.grpo, data.looks.grpo], ["norm of λ·∇L_JSD", lam.value * data.jsd, lam.colour],
    ["norm of their sum", data.sums[l], "currentColor"]]
  const svg = mark("svg", { viewBox: `0 0 ${WIDE} ${3 * ROW}`, role: "img", "aria-label": rows.map(([n, v]) => `${n}: ${short(v)}`).join(", ") })
  rows.forEach(([name, value, fill], i) => {
    const length = (value / most) * (WIDE - 70), y = i * ROW
    svg.append(mark("text", { y: y + 14 }, name), mark("path", { d: `M0 ${y + 20}v16`, stroke: "currentColor" }))
    svg.append(mark("rect", { y: y + 20, width: length, height: 16, fill }), mark("text", { x: length + 6, y: y + 33 }, short(value)))
  })
  return svg
}

// A column a token: grey as it was, coloured as it is after the step. ▼ the right token, a line under the answer's.
function strip(data, after, colour) {
  const step = WIDE / data.pieces.length, bottom = HIGH + 22
  const height = { viewBox: `0 0 ${WIDE} ${bottom + 26}`, role: "img", "aria-label": "Probability of each token of the trace, before and after" }
  const svg = mark("svg", height)
  data.pieces.forEach((piece, i) => {
    const bar = (p, x, width, fill) => mark("rect", { x: i * step + x, y: bottom - p * HIGH, width, height: p * HIGH, fill })
    const words = mark("title", {}, `${piece}: ${percent(data.before[i])} before, ${percent(after[i])} after`)
    svg.append(mark("g", {}, words, bar(data.before[i], 0, 0.4 * step, data.looks.before), bar(after[i], 0.4 * step, 0.5 * step, colour)))
  })
  svg.append(mark("text", { x: (data.right + 0.45) * step, y: 14, "text-anchor": "middle" }, "▼"))
  data.answer.forEach((i) => svg.append(mark("path", { d: `M${i * step} ${bottom + 3}h${0.9 * step}`, stroke: "currentColor", "stroke-width": 3 })))
  svg.append(mark("path", { d: `M0 ${bottom}H${WIDE}`, stroke: "currentColor" }))
  svg.append(mark("text", { y: bottom + 20 }, "each token: before (grey), after"))
  return svg
}

function sentence(data, l, s) {
  const after = data.after[l][s], both = (f) => `${f(data.before)} → ${f(after)}`
  const answer = (p) => percent(data.answer.reduce((all, i) => all * p[i], 1)), token = (p) => percent(p[data.right])
  const mean = (p) => p.reduce((sum, x) => sum + Math.log(x), 0) / p.length, worse = mean(after) < mean(data.before) - 1e-6
  const angle = data.cosine === null ? "" : ` Cosine between both gradients ${signed(data.cosine)}.`
  const words = [`right token ${data.pieces[data.right]} (▼) ${both(token)}`, `answer, its working given, ${both(answer)}`]
  return `${words.join("; ")}; whole trace ${both((p) => signed(mean(p)))} nats a token${worse ? ": too long a step" : ""}.${angle}`
}

const percent = (p) => `${(100 * p).toFixed(1)} %`
const signed = (v) => String(Math.round(100 * v) / 100 || 0).replace("-", "−")
const short = (v) => String(Number(v.toPrecision(2)))
