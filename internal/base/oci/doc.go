// Package oci keeps images as folders that a container runtime can mount.
//
// A Store pulls an image from a Source, checks every byte against its digest, and unpacks each layer once into a folder of its own,
// named by the layer's digest; images that share layers share the folders. What a layer deletes becomes what overlayfs reads as
// deleted. An image that was pulled stays until it is the longest unused and the store is over its size.
//
// Images are hostile: names that lead out of their folder, links that do, devices, archives that unpack to more than they may, and
// content that is not what its digest says are refused with a sentence, and nothing of them stays.
package oci
