// Package artifact is what was built, from what, by whom, and whether to trust
// it.
//
// A release job hands in the bytes it built (Service.Put). They are taken in
// once for each service and revision, and the engine carries them to an image
// that is named by digest and described by evidence:
//
//	received -> pushed -> signed -> judged -> tagged -> admitted
//	    |          |         \-> rejected   policy said no for a day
//	    \----------\-> refused              the bytes cannot become an image
//
//	received   the bytes are stored, with who made them and how
//	pushed     the image is layered and in the registry, under its digest only
//	signed     signature, provenance, SBOM and test results are its referrers,
//	           and so is what is known of the revision
//	judged     policy has looked at that evidence, and allowed
//	tagged     the release tag is in the registry and in git
//	admitted   the Artifact exists and is announced: nothing changes it again
//
// Promises: an image is built once for each service and revision and never
// again for another environment; a state is stored before the next action and
// each action gives the same result when done twice, so that nothing happens
// twice; only an admitted artifact is announced to the layers above.
package artifact
