import type { OrderRequest } from "../api/client";
import { useManaged } from "../state/manager";
import { visible } from "../state/visible";
import { Field, Segmented, Select } from "../ui/controls";
import { type FieldSpec, catalogue } from "./catalogue";

interface Props {
  order: OrderRequest;
  onChange(order: OrderRequest): void;
  /** What was asked for: that is not asked again. */
  fixed: OrderRequest;
}

export function OrderFields({ order, onChange, fixed }: Props) {
  const fields = (catalogue[order.action]?.fields ?? []).filter((field) => fixed[field.name] === undefined || field.name === "value" || field.name === "kind");
  const shown = fields.filter((field) => !(order.action === "backup" && field.name === "database" && order.kind !== "dump"));
  if (shown.length === 0) return null;
  const set = (name: string, value: unknown) => {
    const { [name]: _, ...rest } = order;
    const next = value === undefined ? { ...rest, action: order.action } : { ...order, [name]: value };
    // A base backup is of all databases: the field is hidden then, and what was typed there must not be sent.
    if (next.action === "backup" && next.kind !== "dump") delete next.database;
    onChange(next);
  };
  return (
    <div className="order-fields">
      {shown.map((field) => (
        <OrderField key={field.name} field={field} value={order[field.name]} set={(value) => set(field.name, value)} />
      ))}
    </div>
  );
}

function OrderField({ field, value, set }: { field: FieldSpec; value: unknown; set(value: unknown): void }) {
  const nodes = useManaged((s) => s.known.herd?.nodes);
  const hint = field.hint ? { hint: field.hint } : {};
  switch (field.kind) {
    case "node": {
      const standbys = (nodes ?? []).filter((node) => node.role !== "primary");
      const options = [["", "The best standby"], ...standbys.map((node) => [String(node.id), visible(node.name)])] as [string, string][];
      return (
        <Field label={field.label} {...hint}>
          <Select label={field.label} value={value === undefined ? "" : String(value)} options={options} onChange={(id) => set(id === "" ? undefined : Number(id))} />
        </Field>
      );
    }
    case "check":
      return (
        <label className="check">
          <input type="checkbox" checked={value === true} onChange={(event) => set(event.target.checked || undefined)} />
          <span>
            {field.label}
            {field.hint && <span className="field-hint">{field.hint}</span>}
          </span>
        </label>
      );
    case "kind":
      return (
        <Segmented label={field.label} value={String(value ?? "base")} options={[["base", "Base backup"], ["dump", "Dump of a database"]]} onChange={set} />
      );
    default:
      return (
        <Field label={field.label} {...hint}>
          <input
            value={value === undefined ? "" : String(value)}
            inputMode={field.kind === "number" ? "numeric" : "text"}
            autoComplete="off"
            spellCheck={false}
            onChange={(event) => set(parse(field, event.target.value))}
          />
        </Field>
      );
  }
}

function parse(field: FieldSpec, text: string): unknown {
  if (text === "") return undefined;
  if (field.kind !== "number") return text;
  const digits = text.replace(/\D/g, "");
  return digits === "" ? undefined : Number(digits);
}
