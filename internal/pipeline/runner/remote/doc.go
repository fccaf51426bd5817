// Package remote runs jobs on other machines: the server's half, a Pool of agents, and the agent's half, an Agent.
//
// An agent keeps one outbound connection open and is told over it which attempts it shall have: the whole list each time, so that
// a lost message does no harm and a reconnect needs no history. It starts what is new, stops what is asked to stop, and kills what
// it is no longer told of. Everything else it asks for: checkouts, artifacts, caches; its log goes up by offset, its result last.
//
//	assigned ──start──> under way ──result──> finished ──stored──> forgotten
//	    └──────────── no word for 12 s ────────────> lost (the job runs again elsewhere)
//
// Promises:
//   - An attempt runs at most once: an agent that has restarted says so by another instance, and what its former self had is lost.
//   - A result counts once, and only from the agent and instance that the attempt was given to. Late ones are refused.
//   - A server that restarts goes on with the attempts that are under way: agents come back and carry on, logs at the byte where
//     they ended. Until it knows which attempts there are it answers "not yet", which agents wait out.
//   - An agent keeps log and result until the server has stored them.
package remote
