// Command init is process 1 of every sandbox. It is built into the server, and useless elsewhere.
package main

import (
	"os"

	"weir/internal/base/jail"
)

func main() {
	jail.Main()
	os.Stderr.WriteString("this program is a part of Weir and runs only inside of its sandboxes\n")
	os.Exit(2)
}
