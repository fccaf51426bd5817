package targettest_test

import (
	"testing"

	"weir/internal/deploy"
	"weir/internal/deploy/target/targettest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	targettest.Run(t, targettest.New(), deploy.Spec{ReleaseID: "rel_1", Version: "1.0.0"}, deploy.Spec{ReleaseID: "rel_2", Version: "1.1.0"})
}
