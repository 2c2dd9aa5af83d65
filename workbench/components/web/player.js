// The one player: a play button, a slider and the words of the step, for whatever has steps. Arrow keys step, space plays. It
// jumps from step to step: what moves in between, a picture's style says, and leaves out where the reader asked for less motion.

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
  room.onkeydown = (e) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[e.key], to = Number(slider.value) + way
    if (!way || e.target === slider || to < 0 || to >= steps.length) return
    stop()
    go(to)
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

// The outlines of the figures' marks, about 1 in radius.
const SHAPES = {
  circle: "M-1 0A1 1 0 1 0 1 0A1 1 0 1 0 -1 0Z",
  square: "M-.9 -.9H.9V.9H-.9Z",
  diamond: "M0 -1.2L1.2 0L0 1.2L-1.2 0Z",
  "triangle-up": "M0 -1.1L1.1 .9H-1.1Z",
  "triangle-down": "M0 1.1L1.1 -.9H-1.1Z",
  cross: "M-.4 -1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
  x: "M-1.1 -.7L-.7 -1.1L0 -.4L.7 -1.1L1.1 -.7L.4 0L1.1 .7L.7 1.1L0 .4L-.7 1.1L-1.1 .7L-.4 0Z",
  star: "M0 -1.2L.35 -.4L1.15 -.37L.5 .15L.75 1L0 .5L-.75 1L-.5 .15L-1.15 -.37L-.35 -.4Z",
  hexagon: "M-.9 -.5L0 -1L.9 -.5V.5L0 1L-.9 .5Z",
}
