// The log of a job. The page has the lines that matter and gaps for the others;
// this file fetches what the reader scrolls to, forgets what is far away, follows
// a log that grows, searches all of it on the server and folds groups.
interface Piece {
  op: "step" | "sum" | "lines";
  step: number;
  from?: number;
  to?: number;
  html?: string;
  many?: boolean;
}

const blockLines = 400; // of one block that is fetched as a whole
const lineHeight = 20;
const tallest = 8_000_000; // pixels: browsers scroll no further than about sixteen million
const keep = 8; // blocks with lines that are not in view

export function log(): void {
  const box = document.querySelector<HTMLElement>("[data-log]");
  if (box) new Log(box);
}

class Log {
  private readonly base: string;
  private readonly seen: IntersectionObserver;
  private readonly folded = new Map<number, number>(); // groups, by the number of their first line: their last
  private loaded: HTMLElement[] = [];
  private readonly asking = new WeakMap<HTMLElement, AbortController>();
  private readonly hits = new Set<number>();
  private range: [number, number] | null = null; // the lines that the address names
  private anchor = 0; // the line from which a range is drawn

  constructor(private readonly box: HTMLElement) {
    this.base = box.dataset.base ?? "";
    this.seen = new IntersectionObserver((entries) => {
      for (const e of entries) {
        const block = e.target as HTMLElement;
        if (e.isIntersecting) void this.load(block);
        else {
          block.dataset.away = "1";
          this.asking.get(block)?.abort(); // the reader has scrolled past it
        }
        if (e.isIntersecting) delete block.dataset.away;
      }
      this.forget();
    }, { rootMargin: "1200px" });
    for (const step of box.querySelectorAll<HTMLDetailsElement>("details")) this.watch(step);
    this.folds();
    this.search();
    this.wrap();
    this.follow();
    addEventListener("hashchange", () => void this.target());
    addEventListener("popstate", () => void this.target());
    box.addEventListener("click", (event) => this.pick(event));
    document.addEventListener("click", (event) => {
      const link = (event.target as HTMLElement).closest<HTMLElement>("[data-line]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      location.hash = "L" + link.dataset.line;
      void this.target();
    });
    void this.target();
  }

  private watch(step: HTMLDetailsElement): void {
    const open = () => {
      if (step.open) for (const gap of step.querySelectorAll<HTMLElement>(".gap")) this.split(gap);
    };
    step.addEventListener("toggle", open);
    open();
  }

  // split turns a gap into blocks of the height that its lines will have.
  private split(gap: HTMLElement): void {
    const blocks: HTMLElement[] = [];
    for (let from = Number(gap.dataset.from), end = Number(gap.dataset.to); from <= end; from += blockLines) {
      blocks.push(this.block(from, Math.min(end, from + blockLines - 1)));
    }
    gap.replaceWith(...blocks);
    for (const b of blocks) this.seen.observe(b);
  }

  private block(from: number, to: number): HTMLElement {
    const b = document.createElement("div");
    b.className = "blk";
    b.dataset.from = String(from);
    b.dataset.to = String(to);
    b.style.height = `${Math.max(2, Math.round((to - from + 1) * lineHeight * this.scale()))}px`;
    return b;
  }

  // scale makes the lines that are not there smaller in a log that would be taller than a page can be.
  private scale(): number {
    const steps = this.box.querySelectorAll<HTMLElement>("details");
    const lines = Number(steps[steps.length - 1]?.dataset.to ?? 1);
    return Math.min(1, tallest / (lines * lineHeight));
  }

  private async load(block: HTMLElement): Promise<void> {
    if (block.dataset.state) return;
    block.dataset.state = "loading";
    const ask = new AbortController();
    this.asking.set(block, ask);
    try {
      const answer = await fetch(`${this.base}/lines?from=${block.dataset.from}&to=${block.dataset.to}`, { signal: ask.signal });
      if (!answer.ok) throw new Error(await answer.text());
      const html = await answer.text();
      const top = block.getBoundingClientRect().bottom < 0 ? block.offsetHeight : -1;
      block.innerHTML = html;
      block.style.height = "";
      block.dataset.state = "loaded";
      this.loaded.push(block);
      this.dress(block);
      // What is above the reader must not move what they read; most browsers see to it themselves.
      if (!CSS.supports("overflow-anchor", "auto") && top >= 0 && block.offsetHeight !== top) scrollBy(0, block.offsetHeight - top);
    } catch (error) {
      if (ask.signal.aborted) {
        delete block.dataset.state;
        if (!block.dataset.away) void this.load(block); // the reader came back
        return;
      }
      block.textContent = `These lines could not be read. ${error instanceof Error ? error.message : ""} Scroll away and back to try again.`;
      delete block.dataset.state;
    }
  }

  // forget empties blocks that are far from the reader.
  private forget(): void {
    for (let i = 0; this.loaded.length > keep && i < this.loaded.length; ) {
      const b = this.loaded[i]!;
      if (!b.dataset.away) {
        i++;
        continue;
      }
      this.loaded.splice(i, 1);
      b.style.height = `${b.offsetHeight}px`;
      b.replaceChildren();
      delete b.dataset.state;
    }
  }

  // show brings a line into the page and into view.
  private async show(n: number, at: ScrollLogicalPosition = "center"): Promise<HTMLElement | null> {
    const holds = (e: HTMLElement) => Number(e.dataset.from) <= n && n <= Number(e.dataset.to);
    const step = [...this.box.querySelectorAll<HTMLDetailsElement>("details")].find(holds);
    if (!step) return null;
    if (!step.open) {
      step.open = true;
      for (const gap of step.querySelectorAll<HTMLElement>(".gap")) this.split(gap);
    }
    const block = [...step.querySelectorAll<HTMLElement>(".blk")].find(holds);
    if (block) {
      block.scrollIntoView({ block: "center", behavior: "instant" });
      delete block.dataset.away;
      await this.load(block);
    }
    for (const [from, to] of this.folded) if (from < n && n <= to) this.fold(from, false);
    let line: HTMLElement | null = null;
    for (let k = n; !line && k < n + 50; k++) line = document.getElementById("L" + k); // a mark has no line of its own
    line?.scrollIntoView({ block: at, behavior: "instant" });
    return line;
  }

  private async target(): Promise<void> {
    const m = /^#L(\d+)(?:-L?(\d+))?$/.exec(location.hash);
    if (!m) return;
    const from = Number(m[1]);
    const to = Number(m[2] ?? m[1]);
    this.range = [Math.min(from, to), Math.max(from, to)];
    this.anchor = from;
    const line = await this.show(this.range[0]);
    if (line && from === to) this.range = [from, Math.max(from, Number(line.id.slice(1)))]; // a mark has no line of its own
    this.dress(this.box);
  }

  // pick draws a range of lines, to the line whose number is clicked with shift.
  private pick(event: MouseEvent): void {
    const number = (event.target as HTMLElement).closest<HTMLAnchorElement>(".lines > li > a[href^='#L']");
    if (!number || !event.shiftKey || event.ctrlKey || event.metaKey || !this.anchor) return;
    event.preventDefault();
    const to = Number(number.hash.slice(2));
    this.range = [Math.min(this.anchor, to), Math.max(this.anchor, to)];
    history.pushState(null, "", `#L${this.range[0]}-L${this.range[1]}`);
    getSelection()?.removeAllRanges();
    this.dress(this.box);
  }

  // Groups. A group's head folds the lines up to its end.
  private folds(): void {
    this.box.addEventListener("click", (event) => {
      const head = (event.target as HTMLElement).closest<HTMLElement>("li.group");
      if (!head || (event.target as HTMLElement).closest("a")) return;
      const from = Number(head.id.slice(1));
      this.fold(from, !this.folded.has(from), head);
    });
  }

  private fold(from: number, close: boolean, head?: HTMLElement): void {
    if (close) {
      let to = Number(head?.dataset.fold) || 0;
      if (!to) { // it grows: up to the next group, or the end of the step
        const step = head?.closest("details");
        const next = [...(step?.querySelectorAll<HTMLElement>("li.group") ?? [])].map((g) => Number(g.id.slice(1))).find((g) => g > from);
        to = next ? next - 1 : Number(step?.dataset.to ?? from);
      }
      this.folded.set(from, to);
    } else this.folded.delete(from);
    this.dress(this.box);
  }

  // dress hides what is folded and marks what was found, among the lines that are there.
  private dress(root: HTMLElement): void {
    for (const line of root.querySelectorAll<HTMLElement>(".lines > li")) {
      const n = Number(line.id.slice(1));
      line.hidden = this.inFold(n);
      if (line.classList.contains("group")) line.classList.toggle("shut", this.folded.has(n));
      line.classList.toggle("hit", this.hits.has(n));
      line.classList.toggle("at", this.range !== null && this.range[0] <= n && n <= this.range[1]);
    }
    for (const block of root.querySelectorAll<HTMLElement>(".blk")) {
      block.hidden = this.inFold(Number(block.dataset.from)) && this.inFold(Number(block.dataset.to));
    }
  }

  private inFold(n: number): boolean {
    for (const [from, to] of this.folded) if (from < n && n <= to) return true;
    return false;
  }

  private wrap(): void {
    const button = document.querySelector<HTMLElement>("[data-log-wrap]");
    button?.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(this.box.classList.toggle("wrapped")));
    });
  }

  // search asks the server, which has all lines, and steps through them.
  private search(): void {
    const field = document.querySelector<HTMLInputElement>("[data-log-search]");
    const count = document.getElementById("log-count");
    if (!field || !count) return;
    let found: number[] = [];
    let more = false;
    let at = -1;
    let asked = 0;
    const total = () => `${found.length.toLocaleString("en")}${more ? " and more" : ""}`;
    const go = async (by: number) => {
      if (found.length === 0) return;
      this.box.querySelector(".hit-on")?.classList.remove("hit-on");
      at = (at + by + found.length) % found.length;
      count.textContent = `${at + 1} of ${total()}`;
      (await this.show(found[at]!))?.classList.add("hit-on");
    };
    const ask = async () => {
      const words = field.value.trim();
      const mine = ++asked;
      found = [];
      at = -1;
      if (words !== "") {
        const answer = await fetch(`${this.base}/search?q=${encodeURIComponent(words)}`);
        const got = answer.ok ? ((await answer.json()) as { lines: number[]; more: boolean }) : { lines: [], more: false };
        if (mine !== asked) return;
        found = got.lines;
        more = got.more;
      }
      this.hits.clear();
      for (const n of found) this.hits.add(n);
      this.dress(this.box);
      this.highlight(words);
      count.textContent = words === "" ? "" : found.length === 0 ? "No line" : found.length === 1 ? "1 line" : `${total()} lines`;
    };
    let timer = 0;
    field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => void ask(), 200);
    });
    field.form?.addEventListener("submit", (event) => {
      event.preventDefault();
      void (found.length === 0 ? ask() : go(1));
    });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.shiftKey) return;
      event.preventDefault();
      void go(-1);
    });
    for (const button of document.querySelectorAll<HTMLElement>("[data-log-go]")) {
      button.addEventListener("click", () => void go(Number(button.dataset.logGo)));
    }
    if (field.value !== "") void ask();
  }

  // highlight marks the words themselves where the browser can do it without touching the lines.
  private highlight(words: string): void {
    if (!("highlights" in CSS)) return;
    const marks: Range[] = [];
    const low = words.toLowerCase();
    if (low !== "") {
      for (const line of this.box.querySelectorAll<HTMLElement>(".lines > li.hit code")) {
        const walk = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
        for (let node = walk.nextNode(); node && marks.length < 2000; node = walk.nextNode()) {
          const text = node.textContent!.toLowerCase();
          for (let i = text.indexOf(low); i >= 0; i = text.indexOf(low, i + low.length)) {
            const range = new Range();
            range.setStart(node, i);
            range.setEnd(node, i + low.length);
            marks.push(range);
          }
        }
      }
    }
    CSS.highlights.set("log-hit", new Highlight(...marks));
  }

  // follow takes what the job writes.
  private follow(): void {
    const url = this.box.dataset.log;
    if (!url) return;
    const source = new EventSource(url);
    const say = (word: string) => document.getElementById("log-state")?.replaceChildren(word);
    source.addEventListener("log", (event) => {
      const atEnd = this.box.getBoundingClientRect().bottom <= innerHeight + 60;
      for (const piece of JSON.parse((event as MessageEvent<string>).data) as Piece[]) this.put(piece);
      if (atEnd && document.activeElement === document.body && getSelection()?.isCollapsed !== false) {
        this.box.scrollIntoView({ block: "end" });
      }
    });
    source.addEventListener("end", () => {
      source.close();
      this.box.setAttribute("data-log", "");
      say("Ended");
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) say("Connecting again");
    });
    source.addEventListener("open", () => say("Following"));
  }

  private put(piece: Piece): void {
    const template = document.createElement("template");
    template.innerHTML = piece.html ?? "";
    const step = document.getElementById("step-" + piece.step) as HTMLDetailsElement | null;
    if (piece.op === "sum") return void document.getElementById("sum-" + piece.step)?.replaceWith(template.content);
    if (piece.op === "step") {
      if (step) return;
      document.getElementById("log-steps")?.append(template.content);
      const made = document.getElementById("step-" + piece.step) as HTMLDetailsElement | null;
      if (made) this.watch(made);
      return;
    }
    const parts = document.getElementById("parts-" + piece.step);
    if (!step || !parts) return;
    step.dataset.to = String(piece.to);
    if (!piece.many) {
      parts.append(template.content);
      const last = parts.lastElementChild as HTMLElement | null;
      if (last) this.dress(last);
    } else {
      for (let from = piece.from!; from <= piece.to!; from += blockLines) {
        const b = this.block(from, Math.min(piece.to!, from + blockLines - 1));
        parts.append(b);
        this.seen.observe(b);
      }
    }
    this.fade(parts);
  }

  // fade turns the oldest lines that came live into blocks, so that a page that is open for hours stays small.
  private fade(parts: HTMLElement): void {
    const lists = [...parts.children].filter((c) => c.matches("ol.lines")) as HTMLElement[];
    let lines = lists.reduce((n, l) => n + l.childElementCount, 0);
    for (const l of lists) {
      if (lines < 10 * blockLines || l.getBoundingClientRect().bottom > -innerHeight) return;
      lines -= l.childElementCount;
      const b = this.block(Number(l.dataset.from), Number(l.dataset.to));
      b.style.height = `${l.offsetHeight}px`;
      l.replaceWith(b);
      this.seen.observe(b);
    }
  }
}
