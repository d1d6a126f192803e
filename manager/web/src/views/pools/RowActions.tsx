import type { Row } from "../../api/reports";
import { useManager, useWhyNot } from "../../state/manager";
import { visible } from "../../state/visible";
import { Button } from "../../ui/controls";
import { Menu } from "../../ui/Menu";

export function ClientActions({ row }: { row: Row }) {
  const manager = useManager();
  const whyNot = useWhyNot();
  const id = Number(row.id);
  return <Button small kind="quiet" icon="close" aria-label={`End client ${id}`} title={`End client ${id}`} whyNot={whyNot} onClick={() => manager.ask({ action: "kill_client", id })} />;
}

export function DatabaseActions({ row }: { row: Row }) {
  const manager = useManager();
  const whyNot = useWhyNot();
  const database = String(row.name);
  const on = (value: Row[string] | undefined) => Number(value === true ? 1 : value ?? 0) === 1;
  const item = (action: string, label: string, refused: string | false = false, danger = false) => ({
    label,
    danger,
    whyNot: whyNot ?? (refused || null),
    run: () => manager.ask({ action, database }),
  });
  return (
    <Menu
      label={`Actions on database ${visible(database)}`}
      items={[
        item("pause", "Pause…", on(row.paused) && "It is paused"),
        item("resume", "Resume…"),
        item("reconnect", "Reconnect…"),
        item("disable", "Disable…", on(row.disabled) && "It is disabled", true),
        item("enable", "Enable…", !on(row.disabled) && "It is not disabled"),
      ]}
    />
  );
}
