// Light or dark at a click. Streamlit reads the choice at the start, by page; the address holds all else.
export default function draw({ parentElement }) {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark") || night()
  const button = make("button", { type: "button", title: "Switch between light and dark" }, dark ? "☀ Light" : "☾ Dark")
  button.onclick = () => {
    const base = location.pathname.replace(/[^/]*$/, "")
    const pages = [...document.querySelectorAll("a[href]")].map((a) => new URL(a.href).pathname)
    new Set([base, location.pathname, ...pages.filter((p) => p.startsWith(base))]).forEach((path) =>
      localStorage.setItem(`stActiveTheme-${path}-v2`, JSON.stringify(dark ? "Light" : "Dark")))
    location.reload()
  }
  parentElement.querySelector(".picture").replaceChildren(button)
}

// Whether the page's ground is dark.
function night() {
  const ground = getComputedStyle(document.querySelector("[data-testid=stApp]") || document.body).backgroundColor
  const [red, green, blue] = (ground.match(/\d+/g) || [255, 255, 255]).map(Number)
  return red + green + blue < 384
}
