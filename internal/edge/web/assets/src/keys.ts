// Single-key shortcuts. A control names its key in data-key; `g` and a letter
// goes to a page. They rest while somebody types and can be switched off.
const off = "weir_keys_off";

export function keys(): void {
  const box = document.querySelector<HTMLInputElement>("[data-keys-switch]");
  if (box) {
    box.checked = localStorage.getItem(off) === null;
    box.addEventListener("change", () => {
      if (box.checked) localStorage.removeItem(off);
      else localStorage.setItem(off, "1");
    });
  }
  let going = false;
  document.addEventListener("keydown", (event) => {
    const at = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (at.matches("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
    if (localStorage.getItem(off) !== null) return;
    if (document.querySelector(":popover-open") && event.key !== "?") return;
    const wasGoing = going;
    going = event.key === "g";
    if (going) return;
    const key = wasGoing ? "g " + event.key : event.key;
    if (key === "j" || key === "k") return void (row(key === "j" ? 1 : -1) && event.preventDefault());
    const control = document.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`);
    if (!control) return;
    event.preventDefault();
    if (control.matches("input")) control.focus();
    else control.click();
  });
}

// row moves the focus to the next link that opens a row.
function row(by: number): boolean {
  const links = [...document.querySelectorAll<HTMLElement>("main tbody th a, main .list > li a")].filter((a) => a.checkVisibility());
  if (links.length === 0) return false;
  const now = links.indexOf(document.activeElement as HTMLElement);
  links[Math.min(Math.max(now + by, 0), links.length - 1)]?.focus();
  return true;
}
