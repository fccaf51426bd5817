package pipelinedb_test

import (
	"testing"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/pipeline"
)

func TestCachesAreTrimmedByUseAndTheirBytesBecomeWaste(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		for i, key := range []string{"old-but-used", "old", "new"} {
			if err := s.PutCache(t.Context(), "default", "repo_1", "landed", key, blob.Digest(key), 100, now.Add(time.Duration(i)*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		if found, _, err := s.FindCache(t.Context(), "default", "repo_1", []string{"landed"}, "old-but-used", nil); err != nil || found == "" {
			t.Fatalf("FindCache() = %q, %v", found, err)
		}
		if n, _, err := s.TrimCaches(t.Context(), "default", 300, 0, now); err != nil || n != 0 {
			t.Errorf("TrimCaches(300) removed %d, %v; want nothing", n, err)
		}
		if n, bytes, err := s.TrimCaches(t.Context(), "default", 200, 0, now); err != nil || n != 1 || bytes != 100 {
			t.Errorf("TrimCaches(200) removed %d entries, %d bytes, %v; want one", n, bytes, err)
		}
		for key, there := range map[string]bool{"old-but-used": true, "old": false, "new": true} {
			found, _, err := s.FindCache(t.Context(), "default", "repo_1", []string{"landed"}, key, nil)
			if err != nil || (found == key) != there {
				t.Errorf("after trimming, %s is found: %v, %v; want %v", key, found == key, err, there)
			}
		}
		var waste int
		if err := d.QueryRow(t.Context(), "select count(*) from pipeline_waste where digest = 'old'").Scan(&waste); err != nil || waste != 1 {
			t.Errorf("%d rows of waste, %v; want the bytes of the entry that went", waste, err)
		}
	})
}

func TestAgentsAreKeptByNameAndForgotten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		for _, slots := range []int{1, 3} {
			if err := s.SaveAgent(t.Context(), "default", agentOf("a", slots)); err != nil {
				t.Fatal(err)
			}
		}
		all, err := s.Agents(t.Context(), "default")
		if err != nil || len(all) != 1 || all[0].Slots != 3 || len(all[0].Labels) != 2 || !all[0].Seen.Equal(now) {
			t.Errorf("Agents() = %+v, %v", all, err)
		}
		if err := s.ForgetAgent(t.Context(), "default", "a"); err != nil {
			t.Error(err)
		}
		if err := s.ForgetAgent(t.Context(), "default", "a"); err == nil {
			t.Error("an agent was forgotten twice")
		}
	})
}

func agentOf(name string, slots int) pipeline.Agent {
	return pipeline.Agent{Name: name, Labels: []string{"linux", "big"}, Slots: slots, Version: "1", Seen: now}
}
