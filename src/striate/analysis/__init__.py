"""What a network is made of: layers, parameters, multiply-accumulates, memory, receptive fields."""
