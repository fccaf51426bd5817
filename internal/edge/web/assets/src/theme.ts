// The theme is a cookie, so that the server renders it and no page flashes.
const root = document.documentElement;

export function theme(): void {
  document.addEventListener("submit", (event) => {
    const form = event.target as HTMLFormElement;
    if (!form.matches("[data-theme-form]")) return;
    event.preventDefault();
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `weir_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  });
}
