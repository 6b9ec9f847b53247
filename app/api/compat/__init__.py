"""The same operations in other protocols: OpenAI's embeddings and the Open Inference Protocol."""
