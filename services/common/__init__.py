"""What every service shares on purpose."""

import os

# gRPC's own log says again, for each try, what an error says already. Read when gRPC is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
