// Package layout reads OCI image layouts that jobs hand in: what `buildah push
// oci-archive:`, `buildctl --output type=oci`, `skopeo copy oci:` and a script of
// one's own write, as a tar.
//
// All of it is hostile. Open and Check promise that what they accept can be
// pushed whole and unpacked anywhere: every name lies inside, every blob has the
// digest and size that names it, media types say what the bytes are, every layer
// has the content that its image names and unpacks within bounds to nothing but
// folders, files and links, and each document reads the same whatever parser
// reads it. Nothing is written to disk and no more than a manifest is held in
// memory.
package layout
