package source

// Remote is a repository that is reached over HTTP.
type Remote struct {
	URL    string
	Header string // of every request: "Authorization: Basic ...". It is given to git in its environment, never on a command line
}
