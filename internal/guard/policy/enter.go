package policy

// ActionEnter is asked before a job of a workflow enters an environment.
const ActionEnter = "job.enter"

// Enter is what the gate of a job looks at that names an environment.
type Enter struct {
	Repository  string `json:"repository"`
	Workflow    string `json:"workflow"`
	Run         string `json:"run"`
	Revision    string `json:"revision"`
	Environment string `json:"environment"` // in lower case
	// Entry is what approvals are bound to: this run of this revision, and this environment.
	Entry     string     `json:"entry"`
	RulesFrom string     `json:"rules_from"` // revision of the trunk whose weir.yaml holds Needs
	Authors   []string   `json:"authors"`    // who started the run, and who wrote what it brings
	Needs     []Consent  `json:"needs"`      // what services of the repository ask for there
	Approvals []Approval `json:"approvals"`
}

// Consent is how many of whom must agree.
type Consent struct {
	Count    int      `json:"count"`
	Group    string   `json:"group,omitempty"`
	Eligible []string `json:"eligible"` // who could
}
