// Says whether the page still follows the server. After ten seconds without a
// connection the mark goes hollow and the notice says how old the figures are.
const patience = 10_000;

export function live(): void {
  const source = document.querySelector<HTMLElement>("[data-live]");
  const mark = document.getElementById("live");
  const notice = document.getElementById("live-lost");
  if (!source || !mark || !notice) return;
  let lost: number | undefined;
  let since = Date.now();
  const age = notice.querySelector<HTMLElement>("[data-age]");

  const good = () => {
    clearTimeout(lost);
    lost = undefined;
    since = Date.now();
    if (mark.textContent !== "Live") mark.textContent = "Live";
    mark.classList.remove("stopped");
    notice.hidden = true;
  };
  const bad = () => {
    lost ??= window.setTimeout(() => {
      mark.textContent = "Stopped";
      mark.classList.add("stopped");
      notice.hidden = false;
      const tick = () => {
        if (notice.hidden || !age) return;
        age.textContent = `${Math.round((Date.now() - since) / 1000)} s`;
        setTimeout(tick, 1000);
      };
      tick();
    }, patience);
  };

  document.addEventListener("htmx:sse:after:connection", good);
  document.addEventListener("htmx:sse:after:message", good);
  document.addEventListener("htmx:sse:error", bad);
  document.addEventListener("beat", good);
  // A stream that ends because the thing has ended is no loss.
  document.addEventListener("over", () => {
    clearTimeout(lost);
    mark.textContent = "Ended";
    mark.classList.add("stopped");
  });
  window.addEventListener("offline", bad);
  notice.querySelector("button")?.addEventListener("click", () => location.reload());
}
