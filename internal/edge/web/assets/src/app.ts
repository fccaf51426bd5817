// What the pages do beyond HTML: live parts, copy buttons, keys, theme and the
// log of a job. Every page reads and every form posts without it.
import "./htmx";
import { copyButtons } from "./copy";
import { keys } from "./keys";
import { live } from "./live";
import { log } from "./log";
import { theme } from "./theme";

theme();
copyButtons();
keys();
live();
log();
