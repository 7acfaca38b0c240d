"""The same work in other engines. Runs in their own environments: nothing here may import what only Echelon's has."""
