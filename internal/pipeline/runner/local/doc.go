// Package local runs jobs as processes of this machine, each job in a sandbox of its own.
//
// An attempt gets a folder <data>/work/<job>.<attempt>, made for it and removed after it:
//
//	workspace/   the checkout, where steps run
//	home/        $HOME
//	run/         scripts and the files behind GITHUB_ENV, GITHUB_OUTPUT, ...
//
// and a Go cache <data>/cache/<repository>/<trust>, so that a change never writes what a landed run reads. Steps see those, the
// system's tools read-only, and nothing else of Weir. Their environment is made from nothing.
//
// A job may run in a container, have services beside it, and steps that are containers (place, group, service). They see the job's
// folder at /github; what they write otherwise lies in <job>.<attempt>.boxes/, which no process of the job sees. Images come from
// the job's host, by digest, into one store of layers for all jobs. Services and jobs are joined by this process, port by port.
//
// A job's files are hostile: everything that Weir itself reads or writes there goes through os.Root, and a checkout is written
// elsewhere and moved in, so that no process of the job can lead Weir's own writes astray.
package local
