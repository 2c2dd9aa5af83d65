// What a model wrote, equal rollouts once: verdict, facts, the text to the character, a mark where it parts from its partner.
export default function draw({ data, parentElement }) {
  parentElement.querySelector(".picture").replaceChildren(...data.rollouts.map(({ verdict, colour, facts, shared, text, note }) => {
    const words = make("pre", { tabIndex: 0 })
    if (shared !== null) words.append(make("span", { className: "shared", title: "as the other side has it" }, shared),
      make("b", { title: "they part here" }, "▼"))
    words.append(text)
    const box = make("section", { className: "rollout" }, make("div", {}, make("b", {}, verdict), ` ${facts}`), words)
    box.style.borderLeftColor = `var(--st-${colour}-color)`
    if (note) box.append(make("div", {}, note))
    return box
  }))
}
