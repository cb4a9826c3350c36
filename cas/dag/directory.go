package dag

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	"inos.dev/edge/cas"
)

// recordHead is more than the fields of a directory record that are no
// entries take.
const recordHead = 64

// buildDirectory emits the records of a directory and returns its object.
// entries are sorted in place; two of one name are an error.
func buildDirectory(e emit, entries []cas.Entry) (Object, error) {
	slices.SortFunc(entries, func(a, b cas.Entry) int { return cmp.Compare(a.Name, b.Name) })
	for i := range entries {
		if err := entries[i].Validate(); err != nil {
			return Object{}, err
		}
		if i > 0 && entries[i].Name == entries[i-1].Name {
			return Object{}, fmt.Errorf("%w: two entries called %q", cas.ErrCorrupt, entries[i].Name)
		}
	}
	bottom := splitEntries(entries)
	if len(bottom) == 1 {
		h, err := emitManifest(e, bottom[0])
		return ObjectOf(h, bottom[0]), err
	}
	var parts []cas.Part
	for _, m := range bottom {
		h, err := emitManifest(e, m)
		if err != nil {
			return Object{}, err
		}
		parts = append(parts, cas.Part{Hash: h, First: m.Entries[0].Name, Count: m.Count, Size: m.Size})
	}
	return buildParts(e, parts)
}

// splitEntries fills bottom records in order.
func splitEntries(entries []cas.Entry) []*cas.Manifest {
	m := &cas.Manifest{Kind: cas.KindDirectory}
	records, room := []*cas.Manifest{m}, cas.PieceSize-recordHead
	for i := range entries {
		size := entries[i].EncodedSize()
		if len(m.Entries) == cas.MaxEntries || size > room {
			m = &cas.Manifest{Kind: cas.KindDirectory}
			records, room = append(records, m), cas.PieceSize-recordHead
		}
		m.Entries = append(m.Entries, entries[i])
		m.Size += entries[i].Size
		m.Count++
		room -= size
	}
	return records
}

// buildParts emits records of parts over parts until one is left.
func buildParts(e emit, parts []cas.Part) (Object, error) {
	for {
		var up []cas.Part
		for group := range slices.Chunk(parts, cas.MaxParts) {
			m := &cas.Manifest{Kind: cas.KindDirectory, Parts: group}
			for _, p := range group {
				m.Size += p.Size
				m.Count += p.Count
			}
			if len(group) == 1 {
				up = append(up, group[0])
				continue
			}
			h, err := emitManifest(e, m)
			if err != nil {
				return Object{}, err
			}
			if len(parts) <= cas.MaxParts {
				return ObjectOf(h, m), nil
			}
			up = append(up, cas.Part{Hash: h, First: group[0].First, Count: m.Count, Size: m.Size})
		}
		parts = up
	}
}

// Entries yields the entries of a directory in order of their names, from the
// first one that is not below start.
func Entries(ctx context.Context, s Source, dir *cas.Manifest, start string) iter.Seq2[cas.Entry, error] {
	return func(yield func(cas.Entry, error) bool) {
		yieldEntries(ctx, s, dir, start, 0, yield)
	}
}

func yieldEntries(ctx context.Context, s Source, dir *cas.Manifest, start string, depth int, yield func(cas.Entry, error) bool) bool {
	if dir.Kind != cas.KindDirectory || depth > cas.MaxDepth {
		yield(cas.Entry{}, fmt.Errorf("%w: a directory with parts that are none, or too deep", cas.ErrCorrupt))
		return false
	}
	i, _ := slices.BinarySearchFunc(dir.Entries, start, func(e cas.Entry, name string) int { return cmp.Compare(e.Name, name) })
	for _, e := range dir.Entries[i:] {
		if !yield(e, nil) {
			return false
		}
	}
	for i, p := range dir.Parts {
		if i+1 < len(dir.Parts) && dir.Parts[i+1].First <= start {
			continue
		}
		m, err := part(ctx, s, p)
		if err != nil {
			yield(cas.Entry{}, err)
			return false
		}
		if !yieldEntries(ctx, s, m, start, depth+1, yield) {
			return false
		}
	}
	return true
}

// part loads a part and compares it with its link.
func part(ctx context.Context, s Source, p cas.Part) (*cas.Manifest, error) {
	m, err := s.Manifest(ctx, p.Hash)
	if err != nil {
		return nil, err
	}
	if m.Kind != cas.KindDirectory || m.Count != p.Count || m.Size != p.Size || firstName(m) != p.First {
		return nil, fmt.Errorf("%w: directory part %s is not what its link says", cas.ErrCorrupt, p.Hash)
	}
	return m, nil
}

func firstName(m *cas.Manifest) string {
	switch {
	case len(m.Entries) > 0:
		return m.Entries[0].Name
	case len(m.Parts) > 0:
		return m.Parts[0].First
	}
	return ""
}

// find returns the entry called name.
func find(ctx context.Context, s Source, dir *cas.Manifest, name string) (cas.Entry, error) {
	for e, err := range Entries(ctx, s, dir, name) {
		if err != nil {
			return cas.Entry{}, err
		}
		if e.Name == name {
			return e, nil
		}
		break
	}
	return cas.Entry{}, fmt.Errorf("%w: no entry %q", cas.ErrNotFound, name)
}

const (
	// maxHops bounds the symbolic links that one look-up follows.
	maxHops = 8
	// MaxPath is the longest path that Lookup takes, in bytes.
	MaxPath = 16 << 10
	// maxSegments bounds the names of a path with its links resolved.
	maxSegments = 1024
)

// Found is what a path leads to.
type Found struct {
	Entry    cas.Entry // of the last name; its Name is empty for the root itself
	Manifest *cas.Manifest
	Hash     cas.Hash
	Path     string // with links resolved, without slashes at either end
}

// Lookup walks from a root object along a slash-separated path. Symbolic links
// are followed inside of the root only, at most 8 of them. Errors:
// cas.ErrNotFound for a name that is not there, a file in the middle of the
// path, a link that leads outside or is followed too often; cas.ErrTooLarge
// for a path of more than MaxPath bytes.
func Lookup(ctx context.Context, s Source, root cas.Hash, name string) (Found, error) {
	if len(name) > MaxPath {
		return Found{}, fmt.Errorf("%w: a path of %d bytes, at most %d", cas.ErrTooLarge, len(name), MaxPath)
	}
	m, err := Root(ctx, s, root)
	if err != nil {
		return Found{}, err
	}
	l := lookup{source: s, trail: []Found{{Hash: root, Manifest: m}}, rest: segments(name)}
	for len(l.rest) > 0 {
		if err := l.step(ctx); err != nil {
			return Found{}, err
		}
	}
	found := l.trail[len(l.trail)-1]
	names := make([]string, 0, len(l.trail)-1)
	for _, f := range l.trail[1:] {
		names = append(names, f.Entry.Name)
	}
	found.Path = strings.Join(names, "/")
	return found, nil
}

func segments(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(s string) bool { return s == "" || s == "." })
}

// lookup is a walk: trail is where it is, with everything above; rest is what
// is still to go.
type lookup struct {
	source Source
	trail  []Found
	rest   []string
	hops   int
}

func (l *lookup) step(ctx context.Context) error {
	name := l.rest[0]
	l.rest = l.rest[1:]
	if name == ".." {
		if len(l.trail) == 1 {
			return fmt.Errorf("%w: the path leads out of the object", cas.ErrNotFound)
		}
		l.trail = l.trail[:len(l.trail)-1]
		return nil
	}
	if len(l.trail) > maxSegments {
		return fmt.Errorf("%w: a path of more than %d names", cas.ErrTooLarge, maxSegments)
	}
	at := l.trail[len(l.trail)-1]
	if at.Manifest.Kind != cas.KindDirectory {
		return fmt.Errorf("%w: %q is below a file", cas.ErrNotFound, name)
	}
	e, err := find(ctx, l.source, at.Manifest, name)
	if err != nil {
		return err
	}
	if e.Mode == cas.ModeSymlink {
		return l.follow(e)
	}
	m, err := Root(ctx, l.source, e.Hash)
	if err != nil {
		return err
	}
	if (m.Kind == cas.KindDirectory) != (e.Mode == cas.ModeDirectory) || m.Size != e.Size {
		return fmt.Errorf("%w: entry %q is not what its directory says", cas.ErrCorrupt, e.Name)
	}
	l.trail = append(l.trail, Found{Entry: e, Manifest: m, Hash: e.Hash})
	return nil
}

func (l *lookup) follow(e cas.Entry) error {
	l.hops++
	if l.hops > maxHops {
		return fmt.Errorf("%w: more than %d symbolic links on the way", cas.ErrNotFound, maxHops)
	}
	if path.IsAbs(e.Target) {
		return fmt.Errorf("%w: link %q leads out of the object", cas.ErrNotFound, e.Name)
	}
	to := segments(e.Target)
	if len(to)+len(l.rest) > maxSegments {
		return fmt.Errorf("%w: link %q makes a path of more than %d names", cas.ErrTooLarge, e.Name, maxSegments)
	}
	l.rest = append(to, l.rest...)
	return nil
}
