package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/service"
)

// keepHidden refuses an exchange after which processes of the unit in another mount
// namespace, which follows the service's, would see what their own mounts hide: where
// the new tree goes on top, before Linux 6.5 above all. Best effort: what is mounted
// later is not seen, nor what lives outside of the unit.
func (t *transaction) keepHidden(ctx context.Context, target *target, is *situation, staged []*hierarchy.Staged) error {
	if t.restoring || !slices.ContainsFunc(staged, (*hierarchy.Staged).Covers) {
		return nil
	}
	others, tables, err := otherTables(target, is)
	if err != nil {
		return fmt.Errorf("look at the other mount namespaces of the service: %w", err)
	}
	for _, s := range staged {
		for i, points := range s.Uncovers(tables) {
			if len(points) > 0 {
				return fmt.Errorf("%s in another mount namespace have mounts of their own below %q (%s), which would lie beneath the new tree there, and no longer hide what they hide: "+
					"restart the service, or have it make them in a namespace that is private (mount_namespaces(7))", processes(others[i].PIDs), s.Survey.Path, strings.Join(points, " "))
			}
		}
	}
	return ctx.Err()
}

// otherTables reads the mount tables of the unit's other namespaces.
func otherTables(target *target, is *situation) (read []service.MountNamespace, tables []*nsmount.Table, err error) {
	more, err := (&others{seen: map[uint64]bool{target.id: true}}).find(target, is)
	for _, ns := range more {
		table, e := ns.Table()
		if e == nil {
			read, tables = append(read, ns), append(tables, table)
		} else if !errors.Is(e, service.ErrGone) {
			err = errors.Join(err, e)
		}
	}
	return read, tables, err
}
