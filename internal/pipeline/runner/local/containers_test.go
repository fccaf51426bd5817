package local

import (
	"archive/tar"
	"os"
	"strings"
	"testing"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/base/oci/ocitest"
	"weir/internal/pipeline"
	"weir/internal/pipeline/runner/runnertest"
)

// images is a host with an image of busybox, and one of a service that answers with its name.
func images(t *testing.T) *runnertest.Host {
	t.Helper()
	if _, err := confine.Runtime(); err != nil {
		t.Skip(fault.Sentence(err))
	}
	h := &runnertest.Host{Files: map[string]string{"hello.txt": "hello from the repository\n"}}
	img := ocitest.Busybox(t)
	h.Put(t, "busybox:1", img)
	script := "#!/bin/sh\necho $NAME is up\nexec nc -ll -p 7000 -e echo \"$NAME answers\"\n"
	img.Layers = append(img.Layers, []tar.Header{ocitest.File("serve", 0o755)})
	img.Body["serve"] = script
	img.Config = map[string]any{"Env": []string{"PATH=/bin", "NAME=nobody"}, "Entrypoint": []string{"/serve"}, "ExposedPorts": map[string]any{"7000/tcp": map[string]any{}}}
	h.Put(t, "team/service:1", img)
	return h
}

func TestAJobRunsInItsContainer(t *testing.T) {
	h := images(t)
	j := runnertest.Steps(
		"test -f /etc/debian_version && exit 1; cat hello.txt; pwd; echo home=$HOME ws=$GITHUB_WORKSPACE cpath=${{ github.workspace }} X=$X Y=$Y FROM=$FROM",
		"echo A=1 >> $GITHUB_ENV; echo o=out >> $GITHUB_OUTPUT; mkdir -p b; printf '#!/bin/sh\\necho tool\\n' > b/tool; chmod +x b/tool; echo $PWD/b >> $GITHUB_PATH; echo '# Sum' >> $GITHUB_STEP_SUMMARY",
		"echo A=$A o=${{ steps.two.outputs.o }}; tool; echo ${{ job.status }} ${{ job.container.id != '' }}; ls /__w/*/*/hello.txt; cat /github/workspace/hello.txt; test -s $GITHUB_EVENT_PATH && test -s /github/workflow/event.json",
		"echo ::add-mask::hunter22; echo it is hunter22",
		"wget -qO- $ACTIONS_RESULTS_URL/x 2>&1 | grep -o 404",
		"nosuchtool",
	)
	j.Plan.Steps[1].ID = "two"
	j.Plan.Steps[5].If = "always()"
	j.Plan.Steps = append([]pipeline.StepPlan{{Uses: "checkout"}}, j.Plan.Steps...)
	j.GitHub = map[string]any{"event": map[string]any{"a": "b"}}
	j.Plan.Env = map[string]string{"X": "of the job"}
	j.Plan.Container = &pipeline.Container{Image: "${{ 'busybox:1' }}", Env: map[string]string{"Y": "of the container"}, Options: "--env FROM=options --cpus 1"}
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Failure, "|hello from the repository", "|/github/workspace", "home=/github/home ws=/github/workspace cpath=/github/workspace X=of the job Y=of the container FROM=options",
		"|A=1 o=out", "|tool", "success true", "it is ***", "the image busybox:1 has no nosuchtool")
	if len(res.Images) != 1 || res.Images[0].Use != "container" || !strings.HasPrefix(res.Images[0].Digest, "sha256:") {
		t.Errorf("images %+v; want the one by digest", res.Images)
	}
	if !strings.Contains(res.Summary, "# Sum") {
		t.Errorf("summary %q", res.Summary)
	}
}

func TestServicesAreReachedByPortFromTheMachineAndByNameFromAContainer(t *testing.T) {
	h := images(t)
	services := map[string]pipeline.Container{
		"one": {Image: "team/service:1", Env: map[string]string{"NAME": "first"}, Ports: []string{"7000"}, Options: "--health-cmd 'test -d /proc' --health-interval 1s"},
		"two": {Image: "team/service:1", Env: map[string]string{"NAME": "second"}, Ports: []string{"17000:7000"}},
		"not": {Image: "${{ '' }}"},
	}
	r := open(t)
	j := runnertest.Steps("for i in 1 2 3 4 5 6 7 8 9; do echo got $(exec 3<>/dev/tcp/127.0.0.1/${{ job.services.one.ports['7000'] }}; cat <&3); done; exec 3<>/dev/tcp/127.0.0.1/17000; echo and $(cat <&3)")
	j.Plan.Services = services
	res, log := runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Success, "got first answers", "and second answers", "service one runs: port 7000 at localhost:7000")
	if len(res.Images) != 2 {
		t.Errorf("images %+v; want two", res.Images)
	}

	j = runnertest.Steps("echo got $(nc one 7000 </dev/null); echo and $(nc two 7000 </dev/null)")
	j.Plan.Services, j.Plan.Container = services, &pipeline.Container{Image: "busybox:1"}
	res, log = runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Success, "got first answers", "and second answers")
}

func TestServicesSeeEachOtherAndShareVolumesByName(t *testing.T) {
	h := images(t)
	j := runnertest.Steps("cat /shared/one; cat /data/hello")
	j.Plan.Container = &pipeline.Container{Image: "busybox:1", Volumes: []string{"v:/shared:ro", "./data:/data", "/anonymous"}}
	j.Plan.Steps[0].Run = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do test -s /shared/one && break; sleep 0.2; done; cat /shared/one; echo x > /shared/y || echo read-only"
	j.Plan.Services = map[string]pipeline.Container{
		"one": {Image: "busybox:1", Options: `--entrypoint "sh -c 'until nc two 7000 < /dev/null > /v/one; do sleep 0.1; done; sleep 100'"`, Volumes: []string{"v:/v"}},
		"two": {Image: "team/service:1", Env: map[string]string{"NAME": "two"}},
	}
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Success, "|two answers", "|read-only")
}

func TestAStepMayBeAContainer(t *testing.T) {
	h := images(t)
	h.Files["act/action.yml"] = `
inputs: {who: {default: you}}
outputs: {said: {value: ignored}}
runs:
  using: docker
  image: docker://busybox:1
  env: {GREETING: "hello ${{ inputs.who }}"}
  pre-entrypoint: /bin/pwd
  entrypoint: sh
  args: [-c, 'echo $GREETING $INPUT_WHO in $PWD; echo "said=$GREETING" >> $GITHUB_OUTPUT; echo k=kept >> $GITHUB_STATE; cat hello.txt', ignored]
  post-entrypoint: env
`
	h.Files["built/action.yml"] = "runs: {using: docker, image: Dockerfile}\n"
	for name, container := range map[string]*pipeline.Container{"machine": nil, "container": {Image: "busybox:1"}} {
		j := runnertest.Steps("echo made > made; echo E=of-the-job >> $GITHUB_ENV", "", "", "", "echo after: ${{ steps.act.outputs.said }} $(cat by)")
		j.Plan.Container = container
		j.Plan.Services = map[string]pipeline.Container{"svc": {Image: "team/service:1", Env: map[string]string{"NAME": "svc"}}}
		j.Plan.Steps[1] = pipeline.StepPlan{Uses: "docker://busybox:1", With: map[string]string{"entrypoint": "/bin/sh", "args": `-c "cat made; echo E=$E I=$INPUT_A; echo $GITHUB_WORKSPACE; echo wrote > by; nc svc 7000 < /dev/null"`, "a": "b"}}
		j.Plan.Steps[2] = pipeline.StepPlan{ID: "act", Uses: "./act", With: map[string]string{"who": "there"}}
		j.Plan.Steps[3] = pipeline.StepPlan{Uses: "./built", ContinueOnError: "true"}
		j.Plan.Steps = append([]pipeline.StepPlan{{Uses: "checkout"}}, j.Plan.Steps...)
		res, log := runnertest.Attempt(t, open(t), h, j)
		want(t, res, log, pipeline.Success, "|made", "E=of-the-job I=b", "|/github/workspace", "svc answers", "|hello there there in /github/workspace", "|hello from the repository",
			"after: hello there wrote", "STATE_k=kept", "there is no such file in its folder")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestJavaScriptActionsRunInAContainerWithoutNode(t *testing.T) {
	h := images(t)
	if len(nodeLanguage.tools()) == 0 {
		t.Skip("needs node")
	}
	h.Files["js/action.yml"] = "inputs: {who: {}}\nruns: {using: node20, main: main.js, post: post.js}\n"
	h.Files["js/main.js"] = "const fs = require('fs'); console.log('hello', process.env.INPUT_WHO, fs.existsSync('/etc/debian_version'), process.cwd()); fs.appendFileSync(process.env.GITHUB_OUTPUT, 'o=1\\n')"
	h.Files["js/post.js"] = "console.log('post', require('child_process').execSync('hostname').toString().trim() !== '')"
	h.Files["both/action.yml"] = "runs:\n  using: composite\n  steps:\n    - run: echo composite in $PWD from $GITHUB_ACTION_PATH\n      shell: sh\n    - uses: ./js\n      with: {who: nested}\n"
	j := runnertest.Steps("", "", "", "echo ${{ steps.js.outputs.o }}", "")
	j.Plan.Steps[4] = pipeline.StepPlan{Uses: "setup-go", ContinueOnError: "true"}
	j.Plan.Container = &pipeline.Container{Image: "busybox:1"}
	j.Plan.Steps[0] = pipeline.StepPlan{Uses: "checkout"}
	j.Plan.Steps[1] = pipeline.StepPlan{ID: "js", Uses: "./js", With: map[string]string{"who": "you"}}
	j.Plan.Steps[2] = pipeline.StepPlan{Uses: "./both"}
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Success, "|hello you false /github/workspace", "|1", "|post true", "|composite in /github/workspace from /github/workspace/both", "|hello nested false", "chooses among the machine's tools")
}

func TestAnActionIsBuiltFromItsDockerfile(t *testing.T) {
	h := images(t)
	if look("buildah") == "" {
		t.Skip("needs buildah; `make deps` installs it")
	}
	h.Files["act/busybox"] = ocitest.Busybox(t).Body["bin/busybox"]
	h.Files["act/action.yml"] = "inputs: {who: {}}\nruns: {using: docker, image: Dockerfile, args: ['${{ inputs.who }}']}\n"
	h.Files["act/Dockerfile"] = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"ln\", \"-s\", \"busybox\", \"/bin/sh\"]\nENTRYPOINT [\"/bin/sh\", \"-c\", \"echo built for $0 in $PWD; echo done=yes >> $GITHUB_OUTPUT\"]\n"
	h.Actions = map[string]map[string]string{"acme/tool@v1": {"busybox": h.Files["act/busybox"], "action.yml": h.Files["act/action.yml"], "Dockerfile": h.Files["act/Dockerfile"]}}
	j := runnertest.Steps("", "", "", "echo after ${{ steps.one.outputs.done }}")
	j.Plan.Steps[0] = pipeline.StepPlan{Uses: "checkout"}
	j.Plan.Steps[1] = pipeline.StepPlan{ID: "one", Uses: "./act", With: map[string]string{"who": "somebody"}}
	j.Plan.Steps[2] = pipeline.StepPlan{Uses: "acme/tool@v1", With: map[string]string{"who": "others"}}
	r := open(t)
	res, log := runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Success, "|built for somebody in /github/workspace", "|built for others in /github/workspace", "|after yes")
	if len(res.Images) != 2 || res.Images[0].Digest == "" {
		t.Errorf("images %+v; want what was built, by digest", res.Images)
	}
	left(t, r)
}

func TestABuilderSeesNothingThroughALinkThatAStepPutThere(t *testing.T) {
	h := images(t)
	if look("buildah") == "" {
		t.Skip("needs buildah; `make deps` installs it")
	}
	r := open(t)
	secret := r.cfg.Data + "/secret"
	if err := os.MkdirAll(secret+"/act", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"action.yml": "runs: {using: docker, image: Dockerfile}\n", "Dockerfile": "FROM scratch\nCOPY key /key\n", "key": "the key"} {
		if err := os.WriteFile(secret+"/act/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	j := runnertest.Steps("mkdir act && touch act/Dockerfile && echo 'runs: {using: docker, image: Dockerfile}' > act/action.yml && echo FROM scratch > act/Dockerfile; cd ..; mv workspace other; ln -s "+secret+" workspace", "")
	j.Plan.Steps[1] = pipeline.StepPlan{Uses: "./act"}
	res, log := runnertest.Attempt(t, r, h, j)
	if res.State != pipeline.Failure || strings.Contains(log, "the key") {
		t.Errorf("%s (%s)\n%s", res.State, res.Reason, log)
	}
}

func TestWhatStandsInTheWayOfAContainerIsSaidBeforeTheFirstStep(t *testing.T) {
	h := images(t)
	other := ocitest.Busybox(t)
	other.Architecture = "s390x"
	h.Put(t, "other:1", other)
	dies := ocitest.Busybox(t)
	dies.Config = map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sh", "-c", "echo cannot open the database; exit 3"}}
	h.Put(t, "dies:1", dies)
	service := func(c pipeline.Container) map[string]pipeline.Container {
		return map[string]pipeline.Container{"db": c}
	}
	for name, c := range map[string]struct {
		container *pipeline.Container
		services  map[string]pipeline.Container
		want      []string
	}{
		"missing image":   {container: &pipeline.Container{Image: "none:1"}, want: []string{"There is no image none:1"}},
		"no name":         {container: &pipeline.Container{Image: "No Name"}, want: []string{"is no name of an image"}},
		"wrong platform":  {container: &pipeline.Container{Image: "other:1"}, want: []string{"is not for this machine", "linux/s390x"}},
		"privileged":      {container: &pipeline.Container{Image: "busybox:1", Options: "--privileged"}, want: []string{"--privileged", "containers here do not have"}},
		"machine's files": {container: &pipeline.Container{Image: "busybox:1", Volumes: []string{"/etc:/host"}}, want: []string{"is a folder of the machine"}},
		"leads out":       {container: &pipeline.Container{Image: "busybox:1", Volumes: []string{"../../x:/x"}}, want: []string{"leads out of the workspace"}},
		"udp":             {services: service(pipeline.Container{Image: "busybox:1", Ports: []string{"53/udp"}}), want: []string{"over TCP only"}},
		"bad port":        {services: service(pipeline.Container{Image: "busybox:1", Ports: []string{"x"}}), want: []string{`the port "x" cannot be read`}},
		"never healthy":   {services: service(pipeline.Container{Image: "team/service:1", Options: "--health-cmd 'echo not yet; exit 1' --health-interval 200ms --health-timeout 200ms --health-retries 3"}), want: []string{"service db was not healthy after", "said: not yet", "nobody is up"}},
		"ends at once":    {services: service(pipeline.Container{Image: "dies:1", Options: "--health-cmd true-not"}), want: []string{"service db ended with exit code 3 before it was healthy", "cannot open the database"}},
		"unknown user":    {container: &pipeline.Container{Image: "busybox:1", Options: "--user nobodyhere"}, want: []string{"has no user nobodyhere"}},
		"no program":      {services: service(pipeline.Container{Image: "busybox:1", Options: "--entrypoint /nowhere"}), want: []string{"its program /nowhere cannot be started"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := runnertest.Steps("echo it ran", "echo this too")
			j.Plan.Steps[1].If = "always()"
			j.Plan.Container, j.Plan.Services = c.container, c.services
			r := open(t)
			res, log := runnertest.Attempt(t, r, h, j)
			want(t, res, log, pipeline.Failure, c.want...)
			if strings.Contains(log, "|it ran") || strings.Contains(log, "|this too") || res.Steps[0].State != pipeline.Skipped {
				t.Errorf("a step ran: %+v", res.Steps)
			}
			left(t, r)
		})
	}
}

// left fails the test if an attempt left something behind.
func left(t *testing.T, r *Runner) {
	t.Helper()
	all, _ := os.ReadDir(r.cfg.Data + "/work")
	for _, d := range all {
		if d.Name() != "gone" { // what is about to be removed
			t.Errorf("left in the work folder: %v", d)
		}
	}
}

func TestUsersOfAnImage(t *testing.T) {
	h := images(t)
	if confine.OwnerOf() == nil {
		t.Skip("needs root: containers of others have only one user")
	}
	j := runnertest.Steps("id -u; echo mine > file; cat hello.txt; echo o=1 >> $GITHUB_OUTPUT", "echo ${{ steps.a.outputs.o }}-$(cat file)")
	j.Plan.Steps[0].ID = "a"
	j.Plan.Steps = append([]pipeline.StepPlan{{Uses: "checkout"}}, j.Plan.Steps...)
	j.Plan.Container = &pipeline.Container{Image: "busybox:1", Options: "--user web"}
	r := open(t)
	res, log := runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Success, "|33", "|hello from the repository", "|1-mine")
	left(t, r)
}

func TestACancelledJobTakesItsContainersWithIt(t *testing.T) {
	h := images(t)
	cancel := make(chan struct{})
	j := runnertest.Steps("trap '' TERM INT; touch begun; sleep 1000", "echo cleaned up with $(nc db 7000 < /dev/null)")
	j.Plan.Steps[1].If = "cancelled()"
	j.Cancel = cancel
	j.Plan.Container = &pipeline.Container{Image: "busybox:1"}
	j.Plan.Services = map[string]pipeline.Container{"db": {Image: "team/service:1", Env: map[string]string{"NAME": "db"}}}
	r := open(t)
	r.stages = []stage{{15, 100 * time.Millisecond}}
	go func() {
		for { // until the step says that it has begun
			if _, err := os.Stat(r.cfg.Data + "/work/job_1.1/workspace/begun"); err == nil || t.Context().Err() != nil {
				close(cancel)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	res, log := runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Cancelled, "cleaned up with db answers")
	left(t, r)
}

func TestForkBombsAndFullDisksEndTheirOwnContainerOnly(t *testing.T) {
	h := images(t)
	r := open(t)
	r.cfg.Limits.Processes = 100
	j := runnertest.Steps("bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 2; exit 1", "echo still here")
	j.Plan.Steps[1].If = "always()"
	j.Plan.Container = &pipeline.Container{Image: "busybox:1"}
	res, log := runnertest.Attempt(t, r, h, j)
	if len(res.Unenforced) == 0 {
		want(t, res, log, pipeline.Failure, "more than 100 processes")
	}
	left(t, r)

	r = open(t)
	free := r.cfg.Free()
	r.cfg.Least = 1 << 20
	r.cfg.Free = func() uint64 { // a disk that is nearly full once the container wrote
		n := usage(r.cfg.Data + "/work")
		if n > 20<<20 {
			return 0
		}
		return free
	}
	j = runnertest.Steps("dd if=/dev/zero of=/big bs=1M count=64; sleep 100")
	j.Plan.Container = &pipeline.Container{Image: "busybox:1"}
	res, log = runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Failure, "the runner's disk has")
	left(t, r)
}
