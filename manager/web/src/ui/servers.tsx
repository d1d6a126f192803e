import { visible } from "../state/visible";
import { Select } from "./controls";
import { Note } from "./parts";
import { Text } from "./Text";

/** Which servers did not answer, and why. */
export function Unanswered({ nodes }: { nodes: { node: number; name: string; error: string | null }[] }) {
  return nodes
    .filter((n) => n.error !== null)
    .map((n) => (
      <Note key={n.node} tone="warning"><b><Text>{n.name}</Text>:</b> <Text>{n.error}</Text></Note>
    ));
}

interface ServerSelectProps {
  /** A server's number, or nothing for all. */
  value: string;
  servers: { id: number; name: string }[];
  onChange(value: string): void;
}

/** One of the servers, or all. */
export function ServerSelect({ value, servers, onChange }: ServerSelectProps) {
  const options = servers.map(({ id, name }) => [String(id), visible(name)] as const);
  return <Select label="Server" value={value} options={[["", "All servers"], ...options]} onChange={onChange} />;
}
