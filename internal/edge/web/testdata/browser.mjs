// Drives Chromium over the served pages: pictures, names, contrast, width, live
// updates, keys. Prints one JSON line per finding and one per fact; the Go test
// judges them.
import { chromium } from "playwright-core";
import { mkdirSync } from "node:fs";

const [base, out, session, which = "all"] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const say = (kind, data) => console.log(JSON.stringify({ kind, ...data }));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const pages = {
  overview: "/", run: "/runs/run_1", rollout: "/rollouts/rollout_live", runtests: "/runs/run_1?tab=tests", runtime: "/runs/run_1?tab=time", runartifacts: "/runs/run_1?tab=artifacts", runsummary: "/runs/run_1?tab=summary&job=job_integration_2_3",
  test: "/tests/4f2a9c01", runsfiltered: "/runs?repository=search", runsearch: "/runs/run_1?q=chunked", change: "/changes/change_1", changes: "/changes", runs: "/runs", rollouts: "/rollouts",
  artifact: "/artifacts/artifact_1", notes: "/artifacts/artifact_1/notes", artifacts: "/artifacts", audit: "/audit?entry=entry_c", jump: "/jump?q=checkout", missing: "/runs/run_nope", signin: "/signin", signinlink: "/signin?link=abc",
};

async function open(options, signedIn = true) {
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  if (signedIn) await context.addCookies([{ name: "weir_session", value: session, url: base, httpOnly: true, sameSite: "Lax" }]);
  const page = await context.newPage();
  page.on("console", (m) => { if (m.type() === "error" && !/404|status of 4/.test(m.text())) say("finding", { where: page.url(), what: "console: " + m.text() }); });
  page.on("pageerror", (e) => say("finding", { where: page.url(), what: "script: " + e.message }));
  return { context, page };
}

// look reports what a person with a small screen, a screen reader or weak eyes would miss.
const look = (vw) => {
  const found = [];
  if (document.documentElement.scrollWidth > vw) {
    const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > vw + 1 && !e.closest(".scroll,.log,.diff,.tabs,.cmd,.excerpt,svg,.streams,.top,.side") && e.getBoundingClientRect().width > 0)
      .slice(0, 4).map((e) => `${e.tagName}.${e.className} ${Math.round(e.getBoundingClientRect().right)}`);
    found.push(`wider than the screen, ${document.documentElement.scrollWidth}: ${wide.join(" | ")}`);
  }
  for (const e of document.querySelectorAll("button,a,input:not([type=hidden]),textarea,select,summary")) {
    if (!e.checkVisibility()) continue;
    const label = e.labels?.length ? [...e.labels].map((l) => l.textContent).join(" ") : "";
    const name = (e.getAttribute("aria-label") || label || (e.matches("input,textarea") ? "" : e.textContent)).trim();
    if (!name) found.push("no name: " + e.outerHTML.slice(0, 100));
    const r = e.getBoundingClientRect();
    if (e.matches("button,.btn,summary,.nav a") && r.width && (r.width < 20 || r.height < 20)) found.push(`small target ${Math.round(r.width)}x${Math.round(r.height)}: ${e.outerHTML.slice(0, 80)}`);
  }
  const styled = document.querySelectorAll("main [style]:not(.blk), .side [style]").length;
  if (styled) found.push("inline styles: " + styled + " " + document.querySelector("main [style]:not(.blk), .side [style]").outerHTML.slice(0, 200));
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  const twice = ids.filter((x, i) => ids.indexOf(x) !== i);
  if (twice.length) found.push("ids twice: " + twice.join(" "));
  for (const u of document.querySelectorAll("use")) if (!document.querySelector(u.getAttribute("href"))) found.push("missing symbol " + u.getAttribute("href"));
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (c) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = "#000"; canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
  const lum = ([r, g, b]) => { const f = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (e) => { const stack = []; for (let n = e; n; n = n.parentElement) { const c = rgba(getComputedStyle(n).backgroundColor); if (c[3] > 0) stack.push(c); if (c[3] === 1) break; } let b = [255, 255, 255]; for (const c of stack.reverse()) b = b.map((v, i) => c[i] * c[3] + v * (1 - c[3])); return b; };
  const seen = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const t = walk.currentNode, e = t.parentElement;
    if (!t.textContent.trim() || !e.checkVisibility() || e.closest(".sr,script,style,.skip,noscript")) continue;
    const cs = getComputedStyle(e), svg = e.closest("svg");
    const fg = rgba(svg ? cs.fill : cs.color), bg = behind(svg ? svg.parentElement : e);
    const mix = [0, 1, 2].map((i) => fg[i] * fg[3] + bg[i] * (1 - fg[3]));
    const a = lum(mix), b = lum(bg), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) { const k = `${e.tagName}.${e.getAttribute("class") || ""} ${ratio.toFixed(2)}`; if (!seen.has(k)) { seen.add(k); found.push(`contrast ${k} "${t.textContent.trim().slice(0, 30)}"`); } }
    if (parseFloat(cs.fontSize) < 9) found.push(`text of ${cs.fontSize}: ${t.textContent.trim().slice(0, 30)}`);
  }
  return found;
};

async function pictures() {
  const sizes = ["light", "dark"].flatMap((theme) => [1440, 380].map((width) => ({ theme, width })));
  await Promise.all(sizes.map(async ({ theme, width }) => {
    const { context, page } = await open({ viewport: { width, height: width === 380 ? 800 : 900 }, colorScheme: theme, hasTouch: width === 380, isMobile: width === 380 });
    for (const [name, path] of Object.entries(pages)) {
      if (which !== "all" && which !== "pictures" && which !== name) continue;
      await page.goto(base + path, { waitUntil: "load" });
      await page.evaluate(() => document.fonts.ready);
      for (const what of await page.evaluate(look, width)) say("finding", { where: `${name} ${theme} ${width}`, what });
      await page.screenshot({ path: `${out}/${name}-${theme}-${width}.png`, fullPage: true });
    }
    await context.close();
  }));
}

async function readsWithoutScript() {
  const { context, page } = await open({ viewport: { width: 1280, height: 900 }, javaScriptEnabled: false });
  await page.goto(base + "/rollouts/rollout_live");
  say("fact", { name: "no script: verdict", value: await page.locator("#helm .say").innerText() });
  await page.getByRole("button", { name: /Roll back/ }).first().click();
  say("fact", { name: "no script: the question shows", value: String(await page.locator("#ask-rollback").isVisible()) });
  await context.close();
}

async function lives() {
  const { context, page } = await open({ viewport: { width: 1440, height: 900 } });
  await page.goto(base + "/rollouts/rollout_live");
  await page.evaluate(() => {
    window.shift = 0;
    new PerformanceObserver((l) => { for (const e of l.getEntries()) window.shift += e.value; }).observe({ type: "layout-shift", buffered: true });
  });
  await page.waitForFunction(() => performance.getEntriesByType("resource").some((e) => e.name.endsWith("/live")) || true);
  await page.waitForTimeout(500);
  await page.locator(".table-view summary").first().click();
  await page.evaluate(() => { window.shift = 0; window.kept = document.getElementById("helm"); });
  const before = await page.locator("#traffic").innerText();
  await page.waitForTimeout(600); // A shift within half a second of a click counts as asked for.
  await fetch(base + "/_test/move?by=30s", { method: "GET" });
  await page.waitForFunction((was) => document.getElementById("traffic").innerText !== was, before, { timeout: 10_000 });
  await page.waitForTimeout(300);
  say("fact", { name: "live: layout shift", value: String(await page.evaluate(() => window.shift)) });
  say("fact", { name: "live: same element", value: String(await page.evaluate(() => window.kept === document.getElementById("helm"))) });
  say("fact", { name: "live: table stays open", value: String(await page.locator(".table-view").first().evaluate((e) => e.open)) });
  say("fact", { name: "live: word", value: await page.locator("#live").innerText() });
  await context.close();
}

async function keyboard() {
  const { context, page } = await open({ viewport: { width: 1440, height: 900 } });
  await page.goto(base + "/rollouts/rollout_live");
  await page.waitForFunction(() => window.htmx !== undefined);
  await page.keyboard.press("m");
  await page.locator("#ask-promote").waitFor({ timeout: 5000 });
  say("fact", { name: "keys: m asks why", value: String(await page.locator("#ask-promote").isVisible()) });
  await page.keyboard.type("enough");
  await fetch(base + "/_test/move?by=1s");
  await page.waitForTimeout(700);
  say("fact", { name: "keys: an open question survives an update", value: await page.locator("#reason").inputValue() });
  await page.keyboard.press("Escape");
  await page.locator("#ask-promote").waitFor({ state: "hidden" });
  await page.keyboard.press("r");
  await page.locator("#ask-rollback").waitFor({ timeout: 5000 });
  say("fact", { name: "keys: r asks once", value: String(await page.locator("#ask-rollback").isVisible()) });
  say("fact", { name: "keys: focus", value: await page.evaluate(() => document.activeElement.textContent.trim()) });
  await page.screenshot({ path: `${out}/rollout-ask.png` });
  await Promise.all([page.waitForNavigation({ timeout: 5000 }), page.keyboard.press("Enter")]);
  say("fact", { name: "keys: rolled back", value: await page.locator("#helm .say").innerText() });
  await page.screenshot({ path: `${out}/rollout-back.png`, fullPage: true });
  await context.close();
}

async function follows() {
  const { context, page } = await open({ viewport: { width: 1440, height: 900 } });
  await page.goto(base + "/runs/run_1?job=job_e2e");
  await page.waitForFunction(() => document.getElementById("log-state")?.textContent === "Following", undefined, { timeout: 10_000 });
  const lines = await page.locator(".lines > li").count();
  await fetch(base + "/_test/log?line=" + encodeURIComponent("hello <b>world</b>"));
  await page.waitForFunction((n) => document.querySelectorAll(".lines > li").length === n + 1, lines, { timeout: 10_000 });
  say("fact", { name: "log: line", value: (await page.locator(".lines > li").last().innerText()).replace(/\s+/g, " ") });
  await page.locator("[data-log-search]").fill("chunked");
  await page.waitForFunction(() => document.getElementById("log-count").textContent !== "", undefined, { timeout: 10_000 });
  say("fact", { name: "log: search", value: await page.locator("#log-count").innerText() });
  await fetch(base + "/_test/log?end=1");
  await page.waitForFunction(() => document.getElementById("log-state").textContent === "Ended", undefined, { timeout: 10_000 });
  say("fact", { name: "log: end", value: "Ended" });
  await context.close();
}

// ranges draws a range of lines, and finds it again after a reload in a step that was folded.
async function ranges() {
  const { context, page } = await open({ viewport: { width: 1440, height: 900 } });
  await page.goto(base + "/runs/run_1?job=job_e2e");
  await page.locator(".lines > li").first().waitFor({ state: "attached" });
  const [from, to] = await page.evaluate(() => {
    const steps = [...document.querySelectorAll("[data-log] details")].map((s) => [...s.querySelectorAll(".lines > li")]).filter((l) => l.length >= 3);
    steps[0][0].closest("details").open = true;
    return [steps[0][0].id, steps[0][2].id];
  });
  const marked = () => page.evaluate(() => [...document.querySelectorAll(".lines > li.at")].map((l) => l.id).join(" "));
  await page.locator(`#${to} > a`).click();
  await page.locator(`#${to}.at`).waitFor();
  await page.locator(`#${from} > a`).click({ modifiers: ["Shift"] });
  await page.locator(`#${from}.at`).waitFor();
  const drawn = await marked();
  say("fact", { name: "range: address", value: String(new URL(page.url()).hash === `#${from}-${to}`) });
  say("fact", { name: "range: lines", value: String(drawn.split(" ").length >= 3 && drawn.startsWith(from) && drawn.endsWith(to)) });
  await page.evaluate(() => document.querySelectorAll("[data-log] details").forEach((s) => { s.open = false; }));
  await page.reload();
  await page.locator(`#${from}.at`).waitFor({ timeout: 10_000 });
  say("fact", { name: "range: after a reload", value: String((await marked()) === drawn) });
  say("fact", { name: "range: in view", value: String(await page.locator("#" + from).evaluate((e) => { const r = e.getBoundingClientRect(); return r.height > 0 && r.top >= 0 && r.bottom <= innerHeight; })) });
  // Somebody folds the step and follows the same address again, written the other way round.
  await page.evaluate(() => document.querySelectorAll("[data-log] details").forEach((s) => { s.open = false; }));
  await page.evaluate(([a, b]) => { location.hash = `#${b}-${a}`; }, [from, to]);
  await page.locator(`#${from}.at`).waitFor({ timeout: 10_000 });
  say("fact", { name: "range: opens its step", value: String(await page.locator("#" + from).isVisible() && (await marked()) === drawn) });
  await context.close();
}

// big looks at a run of 10,000 jobs and a log of a million lines: how long things take is said, how much the page holds is judged.
async function big() {
  const { context, page } = await open({ viewport: { width: 1440, height: 900 } });
  const timed = async (name, what) => { const t = performance.now(); await what(); say("fact", { name: "big: " + name, value: Math.round(performance.now() - t) + " ms" }); };
  const settled = () => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await page.goto(base + "/runs/run_0"); // warm
  await timed("page", async () => { await page.goto(base + "/runs/run_big?job=job_7", { waitUntil: "load" }); await settled(); });
  say("fact", { name: "big: nodes in the page", value: String(await page.evaluate(() => document.getElementsByTagName("*").length)) });
  await timed("jump to line 900,000", async () => {
    await page.evaluate(() => { location.hash = "L900001"; });
    await page.locator("#L900001.at").waitFor({ timeout: 20_000 });
    await settled();
  });
  say("fact", { name: "big: the line is in view", value: String(await page.locator("#L900001").evaluate((e) => { const r = e.getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight || `${r.top} ${r.bottom} of ${innerHeight}, block ${e.closest(".blk")?.outerHTML.slice(0, 120)} ${e.closest(".blk")?.offsetHeight}`; })) });
  await timed("search all lines", async () => {
    await page.locator("[data-log-search]").fill("testneedle");
    await page.waitForFunction(() => document.getElementById("log-count").textContent === "1 line", undefined, { timeout: 20_000 });
  });
  await timed("go to the match", async () => {
    await page.locator("[data-log-go='1']").click();
    await page.locator("#L700000.hit-on").waitFor({ timeout: 20_000 });
  });
  const frames = await page.evaluate(async () => {
    const took = [];
    let last = performance.now();
    for (let i = 0; i < 120; i++) {
      scrollBy(0, 900);
      await new Promise((done) => requestAnimationFrame(done));
      const now = performance.now();
      took.push(now - last);
      last = now;
    }
    took.sort((a, b) => a - b);
    return `p50 ${took[60].toFixed(0)} ms, p95 ${took[114].toFixed(0)} ms, longest ${took[119].toFixed(0)} ms`;
  });
  say("fact", { name: "big: frames while scrolling 108,000 pixels", value: frames });
  await timed("lines are there after scrolling", () => page.waitForFunction(() => {
    const e = document.elementFromPoint(innerWidth / 2, innerHeight / 2);
    return e?.closest(".lines > li, .lines") !== null;
  }, undefined, { timeout: 20_000 }));
  say("fact", { name: "big: nodes after scrolling", value: String(await page.evaluate(() => document.getElementsByTagName("*").length)) });
  await page.screenshot({ path: `${out}/run-big.png` });
  await timed("list of jobs, page 50", async () => { await page.goto(base + "/runs/run_big?job=job_7&tab=time&page=50", { waitUntil: "load" }); await settled(); });
  await page.screenshot({ path: `${out}/run-big-jobs.png`, fullPage: true });
  await context.close();
}

async function signsIn() {
  const { context, page } = await open({ viewport: { width: 1280, height: 900 } }, false);
  await page.goto(base + "/rollouts/rollout_live");
  say("fact", { name: "sign-in: sent to", value: new URL(page.url()).pathname });
  await page.getByLabel("Sign-in link").fill(base + "/signin?link=wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  say("fact", { name: "sign-in: refused", value: await page.getByRole("alert").innerText() });
  await page.getByLabel("Sign-in link").fill(base + "/signin?link=one-time-token");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL("**/rollouts/rollout_live");
  const cookie = (await context.cookies()).find((c) => c.name === "weir_session");
  say("fact", { name: "sign-in: cookie", value: `httpOnly ${cookie.httpOnly} sameSite ${cookie.sameSite}` });
  await context.close();
}

try {
  if (which === "all") { await lives(); await follows(); await ranges(); if (process.env.WEIR_TEST_LONG) await big(); await signsIn(); await readsWithoutScript(); }
  if (which === "big") await big();
  if (which === "ranges") await ranges();
  if (which !== "keyboard" && which !== "big" && which !== "ranges") await pictures();
  if (which === "all" || which === "keyboard") await keyboard();
  say("done", {});
} finally {
  await browser.close();
}
