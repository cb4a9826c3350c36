package dag

import (
	"mime"
	"path"
	"strings"

	"inos.dev/edge/cas"
)

// DefaultMediaType is what a file has that says nothing of itself.
const DefaultMediaType = "application/octet-stream"

// MediaType decides an object's media type: the explicit one, unless it is
// what a client sends when it means nothing (curl's form type, multipart,
// octet-stream) or cannot be kept; else the one of the file name's extension;
// else application/octet-stream.
func MediaType(explicit, name string) string {
	if t, params, err := mime.ParseMediaType(explicit); err == nil {
		meaningless := t == "application/x-www-form-urlencoded" || t == DefaultMediaType || strings.HasPrefix(t, "multipart/")
		full := strings.ToLower(mime.FormatMediaType(t, params))
		if !meaningless && cas.CheckMediaType(full) == nil {
			return full
		}
	}
	if t, ok := mediaTypes[strings.ToLower(strings.TrimPrefix(path.Ext(name), "."))]; ok {
		return t
	}
	return DefaultMediaType
}

// mediaTypes is version 1 of the table by extension. A manifest's hash depends
// on it: a change is a new version of the table, for new objects only.
var mediaTypes = map[string]string{
	"7z": "application/x-7z-compressed", "aac": "audio/aac", "apng": "image/apng", "atom": "application/atom+xml",
	"avif": "image/avif", "bmp": "image/bmp", "br": "application/x-brotli", "bz2": "application/x-bzip2",
	"c": "text/x-c; charset=utf-8", "cc": "text/x-c; charset=utf-8", "cjs": "text/javascript; charset=utf-8",
	"conf": "text/plain; charset=utf-8", "cpp": "text/x-c; charset=utf-8", "css": "text/css; charset=utf-8",
	"csv": "text/csv; charset=utf-8", "eot": "application/vnd.ms-fontobject", "epub": "application/epub+zip",
	"flac": "audio/flac", "gif": "image/gif", "glb": "model/gltf-binary", "gltf": "model/gltf+json",
	"go": "text/x-go; charset=utf-8", "gz": "application/gzip", "h": "text/x-c; charset=utf-8",
	"hpp": "text/x-c; charset=utf-8", "htm": "text/html; charset=utf-8", "html": "text/html; charset=utf-8",
	"ico": "image/vnd.microsoft.icon", "ics": "text/calendar; charset=utf-8", "ini": "text/plain; charset=utf-8",
	"jar": "application/java-archive", "java": "text/x-java; charset=utf-8", "jpeg": "image/jpeg", "jpg": "image/jpeg",
	"js": "text/javascript; charset=utf-8", "json": "application/json", "jsonld": "application/ld+json",
	"jsx": "text/javascript; charset=utf-8", "jxl": "image/jxl", "log": "text/plain; charset=utf-8", "m3u8": "application/vnd.apple.mpegurl",
	"m4a": "audio/mp4", "m4s": "video/iso.segment", "m4v": "video/mp4", "map": "application/json",
	"md": "text/markdown; charset=utf-8", "mjs": "text/javascript; charset=utf-8", "mkv": "video/matroska",
	"mov": "video/quicktime", "mp3": "audio/mpeg", "mp4": "video/mp4", "mpd": "application/dash+xml", "mpeg": "video/mpeg",
	"oga": "audio/ogg", "ogg": "audio/ogg", "ogv": "video/ogg", "opus": "audio/ogg", "otf": "font/otf",
	"parquet": "application/vnd.apache.parquet", "pdf": "application/pdf", "png": "image/png",
	"proto": "text/plain; charset=utf-8", "py": "text/x-python; charset=utf-8", "rs": "text/x-rust; charset=utf-8",
	"rss": "application/rss+xml", "rtf": "application/rtf", "sh": "text/x-sh; charset=utf-8",
	"sql": "application/sql", "svg": "image/svg+xml", "tar": "application/x-tar", "tgz": "application/gzip",
	"tif": "image/tiff", "tiff": "image/tiff", "toml": "application/toml", "ts": "video/mp2t",
	"tsv": "text/tab-separated-values; charset=utf-8", "tsx": "text/plain; charset=utf-8", "ttf": "font/ttf",
	"txt": "text/plain; charset=utf-8", "vtt": "text/vtt; charset=utf-8", "wasm": "application/wasm", "wav": "audio/wav",
	"weba": "audio/webm", "webm": "video/webm", "webmanifest": "application/manifest+json", "webp": "image/webp",
	"woff": "font/woff", "woff2": "font/woff2", "xhtml": "application/xhtml+xml", "xml": "application/xml",
	"xz": "application/x-xz", "yaml": "application/yaml", "yml": "application/yaml", "zip": "application/zip",
	"zst": "application/zstd",
}
