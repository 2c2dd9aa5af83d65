// The one player: a play button, a slider and the words of the step, for whatever has steps. Arrow keys step, space plays;
// where the reader asked for less motion a play is a jump from step to step.
const STILL = matchMedia("(prefers-reduced-motion: reduce)")

function player({ room, steps, words, show, at = 0, pause = 700 }) {
  const play = make("button", { className: "play", type: "button" })
  const slider = make("input", { type: "range", min: 0, max: steps.length - 1, value: at, ariaLabel: "Step" })
  const said = make("output", { className: "said" })
  let timer = 0
  const draw = () => {
    play.textContent = timer ? "❚❚ Pause" : "▶ Play"
    play.setAttribute("aria-pressed", String(Boolean(timer)))
  }
  const go = (i) => {
    slider.value = i
    said.textContent = words(steps[i])
    slider.setAttribute("aria-valuetext", said.textContent)
    show(steps[i], i)
  }
  const stop = () => { clearInterval(timer); timer = 0; draw() }
  const next = () => (Number(slider.value) + 1 < steps.length ? go(Number(slider.value) + 1) : stop())
  play.onclick = () => {
    if (timer) return stop()
    if (Number(slider.value) === steps.length - 1) go(0)
    timer = setInterval(next, pause)
    draw()
  }
  slider.oninput = () => { stop(); go(Number(slider.value)) }
  room.replaceChildren(play, slider, said)
  room.classList.add("player")
  draw()
  go(Math.min(at, steps.length - 1))
  return stop
}

// An element with its properties; children are text or elements, never markup.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

// The same in SVG, where properties are attributes.
function mark(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag)
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value))
  element.append(...children)
  return element
}
