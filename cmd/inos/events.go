package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"inos.dev/edge/cmd/inos/remote"
)

type eventsCmd struct {
	Tail    eventsTailCmd    `cmd:"" help:"Print events as they come."`
	Publish eventsPublishCmd `cmd:"" help:"Publish an event."`
}

type eventsTailCmd struct {
	clientFlags
	From    uint64 `help:"First event wanted, by its number; 1: all that is kept; 0: those that come from now on." default:"0" env:"-" placeholder:"SEQ"`
	Service string `help:"Only events of this service, the first part of their names." env:"-" placeholder:"NAME"`
	Action  string `help:"Only events of this action, the second part of their names." env:"-" placeholder:"NAME"`
	Follow  bool   `help:"Wait for more; without, end with the last event that there is now." default:"true" negatable:"" env:"-"`
	Limit   int    `help:"End after so many events; 0: never." default:"0" env:"-" placeholder:"N"`
	JSON    bool   `help:"Print one line of JSON per event." env:"-"`
}

func (eventsTailCmd) Help() string {
	return "A node keeps a bounded number of events. Events about accounts are shown to those whom they concern, and to administrators.\n\n" + examples(
		"inos events tail",
		"inos events tail --service storage --action replicate_chunk",
		"inos events tail --from 1 --no-follow --json | jq -r .event_type",
	)
}

// eventLine is one line of --json. A payload that is JSON stands in it as such,
// any other one as base64.
type eventLine struct {
	Sequence uint64            `json:"sequence"`
	ID       string            `json:"id"`
	Name     string            `json:"event_type"`
	Time     time.Time         `json:"time"`
	User     string            `json:"user_id,omitempty"`
	Device   string            `json:"device_id,omitempty"`
	Trace    map[string]string `json:"trace_context,omitempty"`
	Payload  json.RawMessage   `json:"payload,omitempty"`
	Bytes    []byte            `json:"payload_bytes,omitempty"`
}

func (k *eventsTailCmd) Run(ctx context.Context, c *console) error {
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	count := 0
	for e, err := range node.Events(ctx, remote.EventQuery{Service: k.Service, Action: k.Action, From: k.From, Follow: k.Follow}) {
		if err != nil {
			return err
		}
		if e.Lost > 0 {
			fmt.Fprintf(c.err, "events %d to %d are no longer kept\n", e.Sequence, e.Lost)
			continue
		}
		if err := k.print(c, e); err != nil {
			return err
		}
		if count++; count == k.Limit {
			return nil
		}
	}
	return nil
}

func (k *eventsTailCmd) print(c *console, e remote.Event) error {
	if k.JSON {
		line := eventLine{Sequence: e.Sequence, ID: e.ID, Name: e.Name, Time: e.Time.UTC(), User: e.User, Device: e.Device, Trace: e.Trace}
		if json.Valid(e.Payload) {
			line.Payload = e.Payload
		} else {
			line.Bytes = e.Payload
		}
		return printJSON(c.out, line)
	}
	_, err := fmt.Fprintf(c.out, "%s %10d  %-45s  %s  %s\n", e.Time.UTC().Format(time.DateTime), e.Sequence, e.Name, e.ID, payloadText(e.Payload))
	return err
}

// maxPayloadText is how much of a payload a person is shown.
const maxPayloadText = 200

// payloadText is a payload on one line, without what a terminal would obey.
func payloadText(b []byte) string {
	if len(b) > maxPayloadText {
		return fmt.Sprintf("%s… (%d bytes)", oneLineText(b[:maxPayloadText]), len(b))
	}
	return oneLineText(b)
}

func oneLineText(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b), "\ufffd"))
}

type eventsPublishCmd struct {
	clientFlags
	Name    string `arg:"" help:"service:action:vN:state, the state being requested, processing, completed or failed."`
	Payload string `arg:"" optional:"" help:"What it is about, mostly JSON; - for standard input."`
	ID      string `name:"id" help:"Id of the operation that it is about. Default: a new one." env:"-" placeholder:"ID"`
	JSON    bool   `help:"Print one line of JSON." env:"-"`
}

func (eventsPublishCmd) Help() string {
	return "The node says whose event it is, by the token. What it publishes itself cannot be published by others.\n\n" + examples(
		`inos events publish media:transcode:v1:requested '{"object":"5d9f…e1"}'`,
		"inos events publish media:transcode:v1:completed --id 3f2c…",
	)
}

// maxPayload is the most bytes of a payload.
const maxPayload = 64 << 10

func (k *eventsPublishCmd) Run(ctx context.Context, c *console) error {
	payload := []byte(k.Payload)
	if k.Payload == "-" {
		var err error
		if payload, err = io.ReadAll(io.LimitReader(c.in, maxPayload+1)); err != nil {
			return err
		}
	}
	if len(payload) > maxPayload {
		return fmt.Errorf("%w: a payload has at most %s; put it into the node and publish its hash", errUsage, bytesText(maxPayload))
	}
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	e, err := node.Publish(ctx, k.Name, k.ID, payload)
	if err != nil {
		return err
	}
	if k.JSON {
		return printJSON(c.out, eventLine{Sequence: e.Sequence, ID: e.ID, Name: e.Name, Time: e.Time.UTC()})
	}
	_, err = fmt.Fprintf(c.out, "%d  %s\n", e.Sequence, e.ID)
	return err
}
