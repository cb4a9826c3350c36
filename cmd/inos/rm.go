package main

import (
	"context"
	"errors"
	"fmt"

	"inos.dev/edge/cas"
)

type rmCmd struct {
	clientFlags
	Objects []string `arg:"" name:"hash" help:"Hashes or URLs of objects."`
	Force   bool     `short:"f" help:"An object that is not there is no failure." env:"-"`
}

func (rmCmd) Help() string {
	return "Chunks that no other object names go with the node's next collection.\n\n" + examples(
		"inos rm 5d9f…e1",
		"inos ls | xargs inos rm",
	)
}

func (r *rmCmd) Run(ctx context.Context, c *console) error {
	for _, object := range r.Objects {
		if err := r.one(ctx, c, object); err != nil {
			return err
		}
	}
	return nil
}

func (r *rmCmd) one(ctx context.Context, c *console, object string) error {
	t, err := r.resolve(object)
	if err != nil {
		return err
	}
	defer t.node.Close()
	if t.ref.Path != "" {
		return fmt.Errorf("%w: %s is a part of an object; only whole objects can be removed", errUsage, t.ref)
	}
	err = t.node.Delete(ctx, t.ref.Hash)
	switch {
	case r.Force && errors.Is(err, cas.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	_, err = fmt.Fprintln(c.out, t.ref.Hash)
	return err
}
