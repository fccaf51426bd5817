// Package logs keeps what jobs write: one file per attempt, <root>/<run>/<job>.<attempt>.log, only ever appended to, so that a
// byte offset names a place in it for good.
//
// Each line of the file is `<unix microseconds> <tag> <text>`. The tags:
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
// Secrets are masked here, in the one place that everything passes, across lines and chunks, in the encodings that Patterns
// lists. Writing is buffered for at most 250 ms; readers that follow are woken by the writer, nothing polls and nothing goes
// through the database.
package logs
