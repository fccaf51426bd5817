// Follows the log of a job. The server sends finished HTML with the place where
// it belongs; this file only puts it there, and keeps the end in view while the
// reader is at the end.
interface Piece {
  op: "append" | "replace";
  into: string;
  html: string;
}

export function log(): void {
  const box = document.querySelector<HTMLElement>("[data-log]");
  if (!box) return;
  search(box);
  const url = box.dataset.log;
  if (!url) return;
  const source = new EventSource(url);
  source.addEventListener("log", (event) => {
    const atEnd = box.getBoundingClientRect().bottom <= window.innerHeight + 60;
    for (const piece of JSON.parse((event as MessageEvent<string>).data) as Piece[]) put(piece);
    if (atEnd && document.activeElement === document.body && getSelection()?.isCollapsed !== false) {
      box.scrollIntoView({ block: "end" });
    }
  });
  source.addEventListener("end", () => {
    source.close();
    box.removeAttribute("data-log");
    document.getElementById("log-state")?.replaceChildren("Ended");
  });
  source.addEventListener("error", () => {
    const state = document.getElementById("log-state");
    if (state && source.readyState !== EventSource.CLOSED) state.textContent = "Connecting again";
  });
  source.addEventListener("open", () => {
    const state = document.getElementById("log-state");
    if (state) state.textContent = "Following";
  });
}

function put(piece: Piece): void {
  const place = document.getElementById(piece.into);
  if (!place) return;
  const template = document.createElement("template");
  template.innerHTML = piece.html;
  if (piece.op === "append") place.append(template.content);
  else place.replaceWith(template.content);
}

// search marks matches in the lines that are shown and steps through them.
function search(box: HTMLElement): void {
  const field = document.querySelector<HTMLInputElement>("[data-log-search]");
  const count = document.getElementById("log-count");
  if (!field || !count) return;
  let found: HTMLElement[] = [];
  let at = -1;
  const go = (by: number) => {
    if (found.length === 0) return;
    found[at]?.classList.remove("hit-on");
    at = (at + by + found.length) % found.length;
    const line = found[at]!;
    line.classList.add("hit-on");
    line.closest("details")?.setAttribute("open", "");
    line.scrollIntoView({ block: "center" });
    count.textContent = `${at + 1} of ${found.length}`;
  };
  field.addEventListener("input", () => {
    for (const line of found) line.classList.remove("hit", "hit-on");
    const words = field.value.trim().toLowerCase();
    found = words === "" ? [] : [...box.querySelectorAll<HTMLElement>(".lines > li")].filter((l) => l.textContent!.toLowerCase().includes(words));
    for (const line of found) line.classList.add("hit");
    at = -1;
    count.textContent = words === "" ? "" : found.length === 0 ? "No line" : `${found.length} lines`;
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    go(event.shiftKey ? -1 : 1);
  });
  for (const button of document.querySelectorAll<HTMLElement>("[data-log-go]")) {
    button.addEventListener("click", () => go(Number(button.dataset.logGo)));
  }
}
