package local

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/runnertest"
)

func uses(steps ...pipeline.StepPlan) runner.Job {
	var j runner.Job
	j.Plan.Steps = append([]pipeline.StepPlan{{Uses: "checkout"}}, steps...)
	return j
}

const greet = `
name: greet
inputs:
  who: {required: true}
  times: {default: 2}
  event: {default: "${{ github.event_name }}"}
outputs:
  said: {value: "${{ steps.say.outputs.words }}"}
runs:
  using: composite
  steps:
    - id: say
      name: say it to ${{ inputs.who }}
      run: |
        echo "hello $WHO from $GITHUB_ACTION_PATH on ${{ inputs.event }} x${{ inputs.times }}"
        echo "words=hello-$WHO" >> $GITHUB_OUTPUT
        test -f "$GITHUB_ACTION_PATH/action.yml"
        echo "FROM_ACTION=yes" >> $GITHUB_ENV
      shell: bash
      env: {WHO: "${{ inputs.who }}"}
    - run: echo never
      if: failure()
      shell: sh
    - uses: ./.github/actions/inner
      with: {n: "${{ steps.say.outputs.words }}"}
`

const inner = `
inputs: {n: {}}
runs:
  using: composite
  steps: [{run: 'echo "inner ${{ inputs.n }} who=[${{ inputs.who }}]"', shell: bash}]
`

func TestCompositeActionsHaveInputsOutputsAndStepsOfTheirOwn(t *testing.T) {
	h := &runnertest.Host{Files: map[string]string{".github/actions/greet/action.yml": greet, ".github/actions/inner/action.yaml": inner}}
	j := uses(pipeline.StepPlan{ID: "g", Uses: "./.github/actions/greet", With: map[string]string{"who": "ann"}},
		pipeline.StepPlan{Run: "echo 'out ${{ steps.g.outputs.said }} env '$FROM_ACTION; echo 'say is [${{ steps.say.outputs.words }}]'"})
	j.GitHub = map[string]any{"event_name": "push"}
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Success, "hello ann from /", "on push x2", "[say it to ann", "inner hello-ann who=[]", "out hello-ann env yes", "say is []")
	if strings.Contains(log, "|never") {
		t.Error("failure() was true in an action in which nothing failed")
	}
}

func TestAFailingCompositeActionFailsItsStepAndCleansUp(t *testing.T) {
	h := &runnertest.Host{Files: map[string]string{"a/action.yml": "runs: {using: composite, steps: [{run: exit 4, shell: sh}, {run: echo tidy, if: always(), shell: sh}, {run: echo never, shell: sh}]}"}}
	res, log := runnertest.Attempt(t, open(t), h, uses(pipeline.StepPlan{Uses: "./a"}))
	want(t, res, log, pipeline.Failure, "|tidy", "step 1 of the action (Run exit 4): exit code 4")
	if strings.Contains(log, "|never") {
		t.Error("a step after the failed one ran")
	}
}

const script = `
const fs = require('fs');
const say = (s) => console.log(s);
say('input ' + process.env['INPUT_WHO-IS-IT'] + ' default ' + process.env.INPUT_N);
fs.appendFileSync(process.env.GITHUB_OUTPUT, 'result=42\n');
fs.appendFileSync(process.env.GITHUB_STATE, 'token=abc\n');
fs.appendFileSync(process.env.GITHUB_ENV, 'EXPORTED=by-js\n');
say('::notice file=a.js,line=1::from js');
say('leaked ' + (process.env.WEIR_SECRET || 'nothing'));
`

func TestJavaScriptActionsGetInputsAndKeepStateForTheirPost(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("this machine has no node")
	}
	t.Setenv("WEIR_SECRET", "no")
	h := &runnertest.Host{Files: map[string]string{"js/action.yml": "inputs: {who-is-it: {}, n: {default: 7}}\nruns: {using: node20, pre: pre.js, main: main.js, post: post.js}", "js/main.js": script,
		"js/pre.js": "console.log('pre ran')", "js/post.js": "console.log('post with ' + process.env.STATE_token + ' and ' + process.env['INPUT_WHO-IS-IT'])"}}
	j := uses(pipeline.StepPlan{ID: "js", Name: "do it", Uses: "./js", With: map[string]string{"who-is-it": "bob"}}, pipeline.StepPlan{Run: "echo got ${{ steps.js.outputs.result }} $EXPORTED; exit 3"})
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Failure, "|pre ran", "|input bob default 7", "|got 42 by-js", "|post with abc and bob", "leaked nothing")
	if n := len(res.Steps); n != 4 || res.Steps[3].Name != "Post do it" || res.Steps[3].State != pipeline.Success {
		t.Errorf("steps %+v; want a fourth, the post step", res.Steps)
	}
	if len(res.Annotations) != 1 {
		t.Errorf("annotations %+v; want the one of the action", res.Annotations)
	}
}

func TestActionsOfMirrorsPrepareBeforeTheFirstStep(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("this machine has no node")
	}
	files := map[string]string{"action.yml": "inputs: {who: {}}\nruns: {using: node20, pre: pre.js, main: main.js, post: post.js}",
		"pre.js":  "require('fs').appendFileSync(process.env.GITHUB_STATE, 's=kept for ' + process.env.INPUT_WHO + '\\n'); require('fs').appendFileSync(process.env.GITHUB_ENV, 'PREPARED=yes\\n')",
		"main.js": "console.log('main has ' + process.env.STATE_s)", "post.js": "console.log('post has ' + process.env.STATE_s)"}
	h := &runnertest.Host{Actions: map[string]map[string]string{"acme/a@1": files, "acme/bad@1": {"action.yml": "runs: {using: node20, pre: pre.js, main: main.js}", "pre.js": "process.exit(3)", "main.js": "console.log('main all the same')"}}}
	j := uses(pipeline.StepPlan{Run: "echo prepared=$PREPARED"}, pipeline.StepPlan{Uses: "acme/a@1", With: map[string]string{"who": "one"}}, pipeline.StepPlan{Uses: "acme/a@1", With: map[string]string{"who": "two"}})
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Success, "|prepared=yes", "|main has kept for one", "|main has kept for two", "|post has kept for one", "[Pre acme/a@1")
	j = uses(pipeline.StepPlan{Run: "echo not this"}, pipeline.StepPlan{Uses: "acme/bad@1", If: "always()"})
	res, log = runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Failure, "what acme/bad@1 does before the first step: exit code 3", "|main all the same")
	if strings.Contains(log, "|not this") {
		t.Error("a step ran although something before it failed")
	}
}

func TestActionsOfOtherRepositoriesComeFromMirrors(t *testing.T) {
	h := &runnertest.Host{Actions: map[string]map[string]string{"acme/tools@0123": {"sub/action.yml": "runs: {using: composite, steps: [{run: 'cat $GITHUB_ACTION_PATH/data', shell: sh}]}", "sub/data": "mirrored"}}}
	res, log := runnertest.Attempt(t, open(t), h, uses(pipeline.StepPlan{Uses: "acme/tools/sub@0123"}, pipeline.StepPlan{Uses: "acme/tools/sub@0123"}))
	want(t, res, log, pipeline.Success, "|mirrored")
	res, log = runnertest.Attempt(t, open(t), h, uses(pipeline.StepPlan{Uses: "acme/other@0123"}))
	want(t, res, log, pipeline.Failure, "There is no mirror of acme/other at 0123")
}

func TestBadActionsAreRefusedWithASentence(t *testing.T) {
	for text, sentence := range map[string]string{
		"":                      "has no action.yml in its folder; check the repository out",
		"runs: {using: docker}": "says that its image is Dockerfile, and there is no such file",
		"runs: {using: cobol}":  "runs.using: cobol, which is not known",
		"runs: {using: node20}": "a JavaScript action without runs.main",
		"runs: {using: node20, main: ../../../../../etc/passwd}": "leads out of its folder",
		"runs: {using: composite, steps: [{run: x}]}":            "run: without shell:",
		"runs: {using: composite, steps: [{uses: ./a}]}":         "no more than 10 are run",
		"runs: [":                            "its action.yml cannot be read",
		"a: &a [x,x]\nruns: {using: {a: 1}}": "its action.yml cannot be read",
	} {
		h := &runnertest.Host{Files: map[string]string{}}
		if text != "" {
			h.Files["a/action.yml"] = text
		}
		res, log := runnertest.Attempt(t, open(t), h, uses(pipeline.StepPlan{Uses: "./a"}))
		want(t, res, log, pipeline.Failure, sentence)
	}
	res, log := runnertest.Attempt(t, open(t), &runnertest.Host{}, uses(pipeline.StepPlan{Uses: "./../../x"}))
	want(t, res, log, pipeline.Failure, "leads out of the workspace")
}

func TestSetupActionsChooseWhatIsInstalled(t *testing.T) {
	r := open(t)
	for _, l := range []language{nodeLanguage, pythonLanguage, javaLanguage} {
		all := l.tools()
		if len(all) == 0 {
			t.Logf("this machine has no %s", l.name)
			continue
		}
		for _, v := range all[:min(len(all), 4)] {
			input := map[string]string{"setup-node": "node-version", "setup-python": "python-version", "setup-java": "java-version"}[l.action]
			show := map[string]string{"setup-node": "node --version", "setup-python": "python --version && python3 -c 'print(1)'", "setup-java": "java -version && echo home $JAVA_HOME"}[l.action]
			res, log := runnertest.Attempt(t, r, &runnertest.Host{}, uses(pipeline.StepPlan{Uses: l.action, With: map[string]string{input: v.version}}, pipeline.StepPlan{Run: show}))
			want(t, res, log, pipeline.Success, v.version)
		}
		input := map[string]string{"setup-node": "node-version", "setup-python": "python-version", "setup-java": "java-version"}[l.action]
		res, log := runnertest.Attempt(t, r, &runnertest.Host{}, uses(pipeline.StepPlan{Uses: l.action, With: map[string]string{input: "99.x"}}))
		want(t, res, log, pipeline.Failure, "asks for "+l.name+" 99.x, and the runner has "+all[0].version)
	}
}

func TestCheckoutAsksForTheHistoryThatIsWanted(t *testing.T) {
	h := &runnertest.Host{}
	j := runner.Job{}
	j.Plan.Steps = []pipeline.StepPlan{{Uses: "checkout", With: map[string]string{"fetch-depth": "0", "ref": "v1", "sparse-checkout": "a\nb"}}}
	if res, log := runnertest.Attempt(t, open(t), h, j); res.State != pipeline.Success || h.Asked.Depth != 0 || h.Asked.Ref != "v1" || len(h.Asked.Sparse) != 2 {
		t.Errorf("asked for %+v\n%s", h.Asked, log)
	}
	j.Plan.Steps[0].With = map[string]string{"fetch-depth": "-3"}
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Failure, "write a number of revisions")
}

// A process that ignores every polite signal, and one that leaves a child which holds its output, are ended all the same.
func TestNothingOutlivesItsJob(t *testing.T) {
	r := open(t)
	r.stages = []stage{{2, 50_000_000}, {15, 50_000_000}}
	j := runnertest.Steps("trap '' INT TERM HUP; echo stubborn; while true; do sleep 1; done")
	j.Plan.TimeoutMinutes = 0.01
	res, log := runnertest.Attempt(t, r, &runnertest.Host{}, j)
	want(t, res, log, pipeline.Failure, "|stubborn", "longer than its timeout")
	res, log = runnertest.Attempt(t, r, &runnertest.Host{}, runnertest.Steps("setsid sleep 300 & echo left", "exec >&- 2>&-; sleep 0.1; exit 6"))
	want(t, res, log, pipeline.Failure, "|left", "exit code 6")
}

func TestTheBiggestJobIsEndedWhenTheDiskIsNearlyFull(t *testing.T) {
	r := open(t)
	r.cfg.Least = 1 << 40
	r.cfg.Free = func() uint64 { return 1 << 30 }
	res, log := runnertest.Attempt(t, r, &runnertest.Host{}, runnertest.Steps("head -c 3000000 /dev/zero > big; sleep 60"))
	want(t, res, log, pipeline.Failure, "the runner's disk has 1024 MiB left, and this job takes")

	// What other jobs go on leaving behind does not save it.
	r = open(t)
	r.cfg.Least = 1 << 40
	r.cfg.Free = func() uint64 {
		r.trash.mu.Lock()
		defer r.trash.mu.Unlock()
		r.trash.left = append(r.trash.left, dropped{filepath.Join(r.trash.dir, "none"), time.Now()})
		return 1 << 30
	}
	res, log = runnertest.Attempt(t, r, &runnertest.Host{}, runnertest.Steps("sleep 20"))
	want(t, res, log, pipeline.Failure, "the runner's disk has 1024 MiB left")
}

func TestActionsInsideOfActionsRunAtTheCommitOfThePlan(t *testing.T) {
	planned, later := strings.Repeat("b", 40), "v2"
	h := &runnertest.Host{
		Files: map[string]string{"a/action.yml": "runs: {using: composite, steps: [{uses: o/leaf@v1}, {uses: o/late@v2}, {uses: actions/checkout@v4, with: {path: again, lfs: '${{ github.nothing }}'}}]}"},
		Actions: map[string]map[string]string{
			"o/leaf@" + planned: {"action.yml": "runs: {using: composite, steps: [{run: echo the leaf, shell: sh}]}"},
			"o/late@" + later:   {"action.yml": "runs: {using: composite, steps: [{run: echo the late one, shell: sh}]}"},
		}}
	j := uses(pipeline.StepPlan{Uses: "./a"})
	j.Actions = map[string]string{"o/leaf@v1": "o/leaf@" + planned}
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Success, "|the leaf", "|the late one", "uses: o/late@v2 was not known when the run was planned")
}

func TestInputsThatABuiltInActionHasNotFailTheCompositeThatGivesThem(t *testing.T) {
	h := &runnertest.Host{Files: map[string]string{"a/action.yml": "inputs: {deep: {}}\nruns: {using: composite, steps: [{uses: actions/checkout@v4, with: {submodules: '${{ inputs.deep }}'}}]}"}}
	res, log := runnertest.Attempt(t, open(t), h, uses(pipeline.StepPlan{Uses: "./a", With: map[string]string{"deep": "recursive"}}))
	want(t, res, log, pipeline.Failure, "uses: checkout: its input submodules: recursive is not supported by Weir")
}
