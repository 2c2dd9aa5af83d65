// A trace, token by token: above each two bars, how probable either prompt makes it; a mark where it parts from another trace.
// Arrow keys move from token to token; the chosen one's rivals stand below, a row a token.
export default function draw({ data, parentElement }) {
  const root = parentElement.querySelector(".picture")
  const strip = make("div", { className: data.bars ? "strip bars" : "strip" }), chosen = make("div", { className: "chosen" }), jumps = make("div", { className: "jumps" })
  strip.setAttribute("role", "toolbar")
  strip.setAttribute("aria-label", "Tokens; arrow keys move")
  const spans = data.tokens.map((token) => tokenMark(token, data.bars))
  // What was chosen outlives another measure of the same trace.
  let at = Math.min(root.chosen ?? data.start, spans.length - 1)
  const go = (i, focus = true) => {
    if (!spans[i]) return
    spans[at].tabIndex = -1
    spans[at].setAttribute("aria-pressed", "false")
    root.chosen = at = i
    spans[i].tabIndex = 0
    spans[i].setAttribute("aria-pressed", "true")
    if (focus) spans[i].focus()
    if (data.bars) chosen.replaceChildren(...rivals(data.tokens[i], data.names))
  }
  spans.forEach((span, i) => { span.onclick = () => go(i) })
  strip.onkeydown = (event) => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: spans.length - 1 }[event.key]
    if (to === undefined) return
    event.preventDefault()
    event.stopPropagation() // on the stage the same keys turn the page
    go(to)
  }
  data.jumps.forEach(([i, words]) => jumps.append(make("button", { type: "button", onclick: () => go(i) }, words)))
  strip.append(...spans)
  root.replaceChildren(strip, ...(data.bars ? [jumps, chosen] : []))
  if (spans.length) go(at, false)
}

function tokenMark(token, bars) {
  const span = make("span", { className: `token ${token.classes}`, title: token.label, tabIndex: -1 })
  span.setAttribute("role", "button")
  span.setAttribute("aria-label", token.label)
  if (bars) span.append(make("span", { className: "pair" }, ...token.p.map((p, i) => {
    const bar = make("i", { className: i ? "without" : "with" })
    bar.style.height = `${100 * (p ?? 0)}%`
    return bar
  })))
  span.append(make("span", { className: "text" }, token.text))
  return span
}

// The chosen token: what it is, and the likeliest tokens of both prompts beside each other.
function rivals(token, names) {
  const head = make("tr", {}, ...["next token", ...names].map((name) => make("th", { scope: "col" }, name)))
  const rows = token.rivals.map((rival) => make("tr", { className: rival.own ? "own" : "" },
    make("th", { scope: "row" }, rival.text + (rival.own ? " ◂ written" : "")), ...rival.p.map((p, i) => share(p, i, token.least[i]))))
  return [make("p", {}, make("b", {}, token.title), ` ${token.says}`), make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)),
    make("p", { className: "facts" }, token.facts)]
}

function share(p, i, least) {
  const bar = make("i", { className: i ? "without" : "with" })
  bar.style.width = `${100 * (p ?? 0)}%`
  return make("td", {}, make("span", { className: "room" }, bar), (p ?? 0) < 0.0005 ? `< ${Math.max(p === null ? least : 0, 0.001).toFixed(3)}` : p.toFixed(3))
}
