package web

import (
	"fmt"
	"slices"
	"strings"
)

// unheld says which limits jobs of a run were not held to, or nothing.
func unheld(r Run) string {
	var limits, jobs []string
	for _, j := range r.Jobs {
		if len(j.Unenforced) == 0 {
			continue
		}
		jobs = append(jobs, j.Name)
		for _, l := range j.Unenforced {
			if !slices.Contains(limits, l) {
				limits = append(limits, l)
			}
		}
	}
	if len(jobs) == 0 {
		return ""
	}
	where := jobs[0]
	if len(jobs) > 1 {
		where = fmt.Sprintf("%d jobs", len(jobs))
	}
	return fmt.Sprintf("Nobody held %s to the limits of %s.", where, strings.Join(limits, " and "))
}

// images lists what the containers of a run were made of, each once.
func images(r Run) (all []string) {
	for _, j := range r.Jobs {
		for _, i := range j.Images {
			if !slices.Contains(all, i) {
				all = append(all, i)
			}
		}
	}
	return all
}
