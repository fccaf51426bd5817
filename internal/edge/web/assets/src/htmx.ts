// htmx and its server-sent events, loaded in this order: the extension finds
// the library as a global.
// @ts-nocheck
import "htmx.org/dist/htmx.esm.js";
import "htmx.org/dist/ext/hx-sse.js";
