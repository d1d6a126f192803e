import { roleOf, useManaged } from "../state/manager";
import { Login } from "./Login";
import { Shell } from "./Shell";
import { Starting } from "./Starting";

export function App() {
  const session = useManaged((s) => s.session);
  const wantsLogin = useManaged((s) => s.wantsLogin);
  if (!session) return <Starting />;
  if (roleOf(session) === null || wantsLogin) return <Login />;
  return <Shell />;
}
