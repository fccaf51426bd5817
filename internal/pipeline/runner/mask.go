package runner

import (
	"maps"
	"slices"

	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
)

// Masked hides a job's secrets in what it reports beside its log: all of it is shown on pages. An output that holds one is left
// out, as GitHub does, because a job that reads it would rather fail than use three stars.
func Masked(res pipeline.Result, log *logs.Writer) pipeline.Result {
	res.Reason, res.Summary = log.Masked(res.Reason), log.Masked(res.Summary)
	res.Steps, res.Annotations = slices.Clone(res.Steps), slices.Clone(res.Annotations)
	for i := range res.Steps {
		s := &res.Steps[i]
		s.Name, s.Reason = log.Masked(s.Name), log.Masked(s.Reason)
	}
	for i := range res.Annotations {
		a := &res.Annotations[i]
		a.Message, a.Title, a.File = log.Masked(a.Message), log.Masked(a.Title), log.Masked(a.File)
	}
	for _, k := range slices.Sorted(maps.Keys(res.Outputs)) {
		if v := res.Outputs[k]; log.Masked(v) != v {
			res.Outputs = maps.Clone(res.Outputs)
			delete(res.Outputs, k)
			log.Say("the output %s is left out because it holds a secret", k)
		}
	}
	return res
}
