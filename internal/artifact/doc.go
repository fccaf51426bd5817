// Package artifact is what was built, from what, by whom, and whether to trust
// it.
//
// A release job hands in the bytes it built (Service.Put). They are taken in
// once for each service and revision, and the engine carries them to an image
// that is named by digest and described by evidence:
//
//	received -> built -> pushed -> signed -> judged -> tagged -> admitted
//	                                            \-> rejected (policy said no; asked again when evidence changes)
//	any state -> refused (the bytes cannot become an image)
//
//	received   the bytes are stored, with who made them and how
//	built      the image is layered; its digest is known
//	pushed     blobs and manifest are in the registry, under their digest only
//	signed     signature, provenance, SBOM and test results are referrers
//	judged     policy has decided on that evidence, and allowed
//	tagged     the release tag is in the registry and in git
//	admitted   the Artifact exists and is announced: nothing changes it again
//
// Promises: an image is built once for each service and revision and never
// again for another environment; a state is stored before the next action and
// each action gives the same result when done twice, so that nothing happens
// twice; only an admitted artifact is announced to the layers above.
package artifact
