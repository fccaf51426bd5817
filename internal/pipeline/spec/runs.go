package spec

// Runs says what the runners of this version execute. The language knows more: what is off here is refused by name before a run
// starts.
var Runs = struct {
	Containers bool // container: and services:
	Local      bool // uses: ./folder
	Mirrored   bool // uses: owner/name@revision
	Images     bool // uses: docker://image
	Foreign    bool // runs-on: windows-*, macos-*
	Shells     bool // shells other than bash, sh and python
	Snapshots  bool // snapshot:
}{Containers: true, Images: true, Local: true, Mirrored: true}
