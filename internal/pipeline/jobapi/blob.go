package jobapi

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"weir/internal/base/fault"
)

// upload is one that a client has begun.
type upload struct {
	kind, name string
	dir        string

	mu     sync.Mutex
	blocks map[string]int64 // by id, in files of their own
	whole  string           // the file, once it is complete
	size   int64            // of everything that was sent, and then of the whole
}

func (u *upload) remove() { _ = os.RemoveAll(u.dir) }

// open begins an upload.
func (a *API) open(kind, name string) (string, error) {
	if err := a.room(); err != nil {
		return "", err
	}
	id := newID()
	u := &upload{kind: kind, name: name, dir: filepath.Join(a.dir, id), blocks: map[string]int64{}}
	if err := os.Mkdir(u.dir, 0o700); err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uploads[id] = u
	return id, nil
}

// take ends an upload: it must be complete, and is the caller's to remove.
func (a *API) take(kind, name string) (*upload, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, u := range a.uploads {
		u.mu.Lock()
		done := u.whole != ""
		u.mu.Unlock()
		if u.kind == kind && u.name == name && done {
			delete(a.uploads, id)
			return u, nil
		}
	}
	return nil, fault.New(fault.NotFound, "Nothing was uploaded for the %s %s. Upload it to the signed URL first.", kind, name)
}

// blob serves the signed URLs, in the way of Azure's block blobs.
func (a *API) blob(w http.ResponseWriter, r *http.Request, id string) {
	w.Header().Set("x-ms-request-id", newID())
	w.Header().Set("x-ms-version", "2025-01-05")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if !a.signed(r, "r", id) {
			refuse(w, http.StatusForbidden, "AuthenticationFailed", "The URL is not signed for reading, or too old.")
			return
		}
		a.read(w, r, id)
	case http.MethodPut:
		if !a.signed(r, "w", id) {
			refuse(w, http.StatusForbidden, "AuthenticationFailed", "The URL is not signed for writing, or too old.")
			return
		}
		a.mu.Lock()
		u := a.uploads[id]
		a.mu.Unlock()
		if u == nil {
			refuse(w, http.StatusNotFound, "BlobNotFound", "The upload was completed already.")
			return
		}
		err := u.put(w, r)
		var limit *http.MaxBytesError
		switch {
		case errors.As(err, &limit):
			refuse(w, http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", fmt.Sprintf("An upload may have %d bytes.", maxUpload))
		case fault.KindOf(err) != "":
			refuse(w, http.StatusBadRequest, "InvalidInput", fault.Sentence(err))
		case err != nil:
			slog.Error("upload of a job failed", "error", err)
			refuse(w, http.StatusInternalServerError, "InternalError", "The runner could not keep this; its log has the details.")
		default:
			w.Header().Set("ETag", `"`+id+`"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("x-ms-request-server-encrypted", "false")
			w.WriteHeader(http.StatusCreated)
		}
	default:
		refuse(w, http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "Use PUT to upload and GET to download.")
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("x-ms-error-code", code)
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: code, Message: message})
}

func (a *API) read(w http.ResponseWriter, r *http.Request, id string) {
	a.mu.Lock()
	path := a.files[id]
	a.mu.Unlock()
	f, err := os.Open(path)
	if err != nil {
		refuse(w, http.StatusNotFound, "BlobNotFound", "There is nothing here any more.")
		return
	}
	defer f.Close()
	kind := "application/octet-stream"
	if filepath.Ext(id) == ".zip" {
		kind = "application/zip"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("ETag", `"`+id+`"`)
	w.Header().Set("x-ms-blob-type", "BlockBlob")
	if azure := r.Header.Get("x-ms-range"); azure != "" && r.Header.Get("Range") == "" {
		r.Header.Set("Range", azure)
	}
	http.ServeContent(w, r, "", time.Time{}, f)
}

func (u *upload) put(w http.ResponseWriter, r *http.Request) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	body := http.MaxBytesReader(w, r.Body, maxUpload-min(u.size, maxUpload))
	q := r.URL.Query()
	switch q.Get("comp") {
	case "":
		n, err := u.keep("whole", body)
		if err == nil {
			u.whole, u.size = filepath.Join(u.dir, "whole"), n
		}
		return err
	case "block":
		id := q.Get("blockid")
		if b, err := base64.StdEncoding.DecodeString(id); err != nil || len(b) == 0 || len(b) > 64 {
			return fault.New(fault.Invalid, "A block's id must be base64 of at most 64 bytes.")
		}
		if len(u.blocks) >= maxBlocks {
			return fault.New(fault.Invalid, "An upload may have %d blocks.", maxBlocks)
		}
		n, err := u.keep(blockFile(id), body)
		if err == nil {
			u.size += n - u.blocks[id]
			u.blocks[id] = n
		}
		return err
	case "blocklist":
		return u.join(body)
	}
	return fault.New(fault.Invalid, "comp=%s is not known; block and blocklist are.", q.Get("comp"))
}

func blockFile(id string) string {
	b, _ := base64.StdEncoding.DecodeString(id)
	return "block-" + strconv.Itoa(len(b)) + "-" + base64.RawURLEncoding.EncodeToString(b)
}

// keep writes one file, which is there whole or not at all.
func (u *upload) keep(name string, r io.Reader) (int64, error) {
	f, err := os.CreateTemp(u.dir, "part-")
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(u.dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return n, err
}

// join puts the blocks of a list together.
func (u *upload) join(list io.Reader) error {
	var ids []string
	d := xml.NewDecoder(io.LimitReader(list, 16<<20))
	for {
		t, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fault.New(fault.Invalid, "The list of blocks cannot be read: %v.", err)
		}
		e, ok := t.(xml.StartElement)
		if !ok || e.Name.Local == "BlockList" {
			continue
		}
		var id string
		if err := d.DecodeElement(&id, &e); err != nil {
			return fault.New(fault.Invalid, "The list of blocks cannot be read: %v.", err)
		}
		if _, ok := u.blocks[id]; !ok {
			return fault.New(fault.Invalid, "The list names the block %q, which was not uploaded.", id)
		}
		if ids = append(ids, id); len(ids) > maxBlocks {
			return fault.New(fault.Invalid, "An upload may have %d blocks.", maxBlocks)
		}
	}
	f, err := os.CreateTemp(u.dir, "join-")
	if err != nil {
		return err
	}
	defer f.Close()
	total := int64(0)
	for _, id := range ids {
		b, err := os.Open(filepath.Join(u.dir, blockFile(id)))
		if err != nil {
			return err
		}
		n, err := io.Copy(f, b)
		b.Close()
		if total += n; err != nil {
			return err
		}
		if total > maxUpload {
			return fault.New(fault.Invalid, "An upload may have %d bytes.", int64(maxUpload))
		}
	}
	u.whole, u.size = f.Name(), total
	for id := range u.blocks {
		_ = os.Remove(filepath.Join(u.dir, blockFile(id)))
	}
	return nil
}
