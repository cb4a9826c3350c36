package auth

import (
	"fmt"
	"strings"
)

// Action is what a request wants to do: the closed set that the policy decides
// about.
type Action uint8

// The actions. The zero value is none, which is always denied.
const (
	ActionRead    Action = iota + 1 // chunks, objects, what the node tells of itself
	ActionWrite                     // upload, commit, change and remove objects
	ActionPledge                    // lock credits
	ActionPublish                   // publish events, and handle them
	ActionAdmin                     // what belongs to the node

	numActions = iota + 1
)

// actionNames has the text of each action. An action is a label of metrics.
var actionNames = [numActions]string{"none", "read", "write", "pledge", "publish", "admin"}

// String is what a rule calls the action.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// Right is what a token must have for the action, whatever the rules say.
func (a Action) Right() Rights {
	switch a {
	case ActionRead:
		return None
	case ActionWrite, ActionPledge, ActionPublish:
		return Write
	}
	return Admin
}

// parseAction reads what String writes.
func parseAction(s string) (Action, error) {
	for a := ActionRead; a < numActions; a++ {
		if actionNames[a] == s {
			return a, nil
		}
	}
	return 0, fmt.Errorf("%.20q is no action; have %s", s, strings.Join(actionNames[ActionRead:], ", "))
}
