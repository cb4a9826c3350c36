package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2"
)

// A key of the configuration is a flag that has an environment variable: key,
// flag and variable are one name (token-file, --token-file, INOS_TOKEN_FILE).
// The config file is a flat TOML table of keys. A flag counts more than the
// environment, that more than the file, and the file more than the default.

// fileResolver gives kong the values of the config file.
type fileResolver struct {
	path   string
	values map[string]any
}

// BeforeResolve reads the config file once --config is known.
func (*cli) BeforeResolve(ctx *kong.Context) error {
	r, err := loadConfig(ctx)
	if err == nil && r != nil {
		ctx.AddResolver(r)
	}
	return err
}

// loadConfig returns nil if there is no file and none was asked for.
func loadConfig(ctx *kong.Context) (*fileResolver, error) {
	path, asked := configPath(ctx)
	if path == "" {
		return nil, nil //nolint:nilnil // no file is no error and no resolver
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return nil, nil //nolint:nilnil // as above
	}
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	r := &fileResolver{path: path}
	if err := toml.Unmarshal(text, &r.values); err != nil {
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, column := at.Position()
			return nil, fmt.Errorf("config file %s, line %d, column %d: %w", path, row, column, err)
		}
		return nil, fmt.Errorf("config file %s: %w", path, err)
	}
	return r, r.Validate(ctx.Model)
}

// configPath returns the file to read, and whether somebody named it.
func configPath(ctx *kong.Context) (path string, asked bool) {
	for _, flag := range ctx.Model.Flags {
		if flag.Name == "config" {
			if path, ok := ctx.FlagValue(flag).(string); ok && path != "" {
				return path, true
			}
		}
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", false // no home, no file
	}
	return filepath.Join(dir, "inos", "config.toml"), false
}

// Validate refuses keys that no command has.
func (r *fileResolver) Validate(app *kong.Application) error {
	known := configKeys(app)
	for key, value := range r.values {
		if _, ok := known[key]; !ok || key == "config" {
			return fmt.Errorf("config file %s: no command has the key %q; inos config print lists all keys", r.path, key)
		}
		if _, err := plain(value); err != nil {
			return fmt.Errorf("config file %s: %s: %w", r.path, key, err)
		}
	}
	return nil
}

// Resolve implements kong.Resolver. A value of the environment is there
// already and counts more.
func (r *fileResolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := r.values[flag.Name]
	if !ok || fromEnvironment(flag) != "" {
		return nil, nil //nolint:nilnil // what kong expects for "not here"
	}
	return plain(value)
}

// plain writes a value of the file as on the command line.
func plain(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool, int64, float64:
		return fmt.Sprint(v), nil
	case []any:
		texts := make([]string, len(v))
		for i, one := range v {
			text, err := plain(one)
			if err != nil {
				return "", err
			}
			texts[i] = text
		}
		return strings.Join(texts, ","), nil
	}
	return "", fmt.Errorf("want a text, a number, true, false or a list, have %T", value)
}

// fromEnvironment returns the name of the variable that sets a flag, if one does.
func fromEnvironment(flag *kong.Flag) string {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return name
		}
	}
	return ""
}

// configKeys returns all keys with one of the flags of that name.
func configKeys(app *kong.Application) map[string]*kong.Flag {
	keys := map[string]*kong.Flag{}
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		for _, flag := range n.Flags {
			if len(flag.Envs) > 0 {
				keys[flag.Name] = flag
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(app.Node)
	return keys
}

type configCmd struct {
	Print configPrintCmd `cmd:"" help:"Print every key with its value, as a config file."`
}

type configPrintCmd struct{}

func (configPrintCmd) Help() string {
	return examples(
		"inos config print",
		"inos config print > ~/.config/inos/config.toml   # all values as they are now",
	)
}

func (configPrintCmd) Run(ctx *kong.Context, c *console) error {
	file, err := loadConfig(ctx)
	if err != nil {
		return err
	}
	keys := configKeys(ctx.Model)
	names := make([]string, 0, len(keys))
	for name := range keys {
		if name != "config" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := printKey(c, keys[name], file); err != nil {
			return err
		}
	}
	return nil
}

// printKey writes one key: its help, where its value comes from, its value.
func printKey(c *console, flag *kong.Flag, file *fileResolver) error {
	value, source := flag.Default, "default"
	if file != nil {
		if v, ok := file.values[flag.Name]; ok {
			text, err := plain(v)
			if err != nil {
				return err
			}
			value, source = text, "config file"
		}
	}
	if name := fromEnvironment(flag); name != "" {
		value, source = os.Getenv(name), name
	}
	line, err := toml.Marshal(map[string]any{flag.Name: typed(flag, value)})
	if err != nil {
		return err
	}
	if flag.Target.Kind() == reflect.String && value == "" {
		line = append([]byte("# "), line...)
	}
	_, err = fmt.Fprintf(c.out, "# %s\n# From: %s. Variable: %s.\n%s\n", flag.Help, source, strings.Join(flag.Envs, ", "), line)
	return err
}

// typed gives numbers and booleans their TOML type.
func typed(flag *kong.Flag, value string) any {
	switch flag.Target.Kind() {
	case reflect.Bool:
		if v, err := strconv.ParseBool(value); err == nil || value == "" {
			return v
		}
	case reflect.Int, reflect.Int64:
		if v, err := strconv.ParseInt(value, 10, 64); err == nil || value == "" {
			return v
		}
	case reflect.Float64:
		if v, err := strconv.ParseFloat(value, 64); err == nil || value == "" {
			return v
		}
	case reflect.Slice:
		if value == "" {
			return []string{}
		}
		return strings.Split(value, ",")
	}
	return value
}
