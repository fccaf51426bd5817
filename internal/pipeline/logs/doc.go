// Package logs keeps what jobs write.
//
// A log is one stream of lines for one attempt, only ever appended to, so that a byte offset and a line's number name a place
// in it for good. Each line is `<unix microseconds> <tag> <text>`. The tags:
//
//   - a step begins      {"number":1,"name":"Build"}
//   - a step ends        {"number":1,"name":"Build","state":"success",...}, as pipeline.Step
//     |  a line of output
//     [  a group begins     its title
//     ]  a group ends
//     !  an annotation      as pipeline.Annotation
//     #  a word from Weir itself
//     =  the attempt has ended: its state
//
// While a job writes, its log grows in a file <root>/<run>/<job>.<attempt>.log and, every 8 MiB, goes on in another one named by
// the offset at which it begins. Files that are complete are sealed: cut into chunks of 1 MiB of whole lines, compressed, put
// into the blob store and recorded in an Index, which knows each chunk's first byte and first line. Only then is the file
// removed. A crash at any point leaves the file, and the next start seals it. Readers see one log, whichever part of it is where.
//
// Secrets are masked here, in the one place that everything passes, across lines and chunks, in the encodings that Patterns
// lists. Writing is buffered for at most 250 ms; readers that follow are woken by the writer, nothing polls and nothing goes
// through the database. What a reader has seen survives the end of the process; what a power cut may take is what the system had
// not written yet, as with any file that is not synced line by line.
//
// Bounds: 32 KiB a line (a longer one is cut into several), 256 MiB a log (what comes after is counted, not kept). Bytes that are
// not UTF-8 are kept as they are and shown as replacement characters.
package logs
