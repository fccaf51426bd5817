package web

// cacheUse is a use of a cache with the job that made it.
type cacheUse struct {
	CacheUse
	Job string
}

// maxCacheUses bounds what a page shows of a run with many jobs.
const maxCacheUses = 200

// cacheUses lists how the jobs of a run used caches, in the order of its jobs.
func cacheUses(r Run) (out []cacheUse) {
	for _, j := range r.Jobs {
		for _, u := range j.Caches {
			if len(out) == maxCacheUses {
				return out
			}
			out = append(out, cacheUse{u, j.Key})
		}
	}
	return out
}

// cacheHits counts the entries that were found among those that were asked for.
func cacheHits(uses []cacheUse) (hits, asked int) {
	for _, u := range uses {
		if u.Kept {
			continue
		}
		asked++
		if u.Found != "" {
			hits++
		}
	}
	return hits, asked
}

func (u cacheUse) outcome() Status {
	switch {
	case u.Kept:
		return Status{"run", "Kept"}
	case u.Found == u.Key:
		return Status{"ok", "Found"}
	case u.Found != "":
		return Status{"ok", "Found one like it"}
	}
	return Status{"off", "Missed"}
}
