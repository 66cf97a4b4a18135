"""All hostile clients. The contract suite plays each of them to a receiver process; the fuzzer mixes and bends them."""

from fuzz import tricks_content, tricks_documents, tricks_streams, tricks_talk, tricks_tar
from fuzz.trick import TRICKS, Trick

__all__ = ["TRICKS", "Trick", "tricks_content", "tricks_documents", "tricks_streams", "tricks_talk", "tricks_tar"]
