// A copy button copies all of what is shown in short.
export function copyButtons(): void {
  document.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-copy]");
    if (!button) return;
    const label = button.getAttribute("aria-label") ?? "";
    if (button.classList.contains("done")) return;
    navigator.clipboard?.writeText(button.dataset.copy ?? "").then(() => {
      button.setAttribute("aria-label", "Copied");
      button.classList.add("done");
      setTimeout(() => {
        button.setAttribute("aria-label", label);
        button.classList.remove("done");
      }, 1600);
    });
  });
}
